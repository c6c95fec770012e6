"""The body of a request: typed, bounded, in time."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_request import BaseRequest

from spotwatchd.control.limits import Limits
from spotwatchd.control.problems import Problem, shown


async def receive(request: BaseRequest, *, limit: int, limits: Limits) -> bytes:
    """The bytes of the body, at most ``limit``.

    Raises:
        Problem: 408 too slow, 413 too large, 415 of another type, 417 an expectation unknown.
    """
    if not request.can_read_body:
        return b""
    _check_type(request)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    await _go_on(request)
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _read(request, limit)
    except TimeoutError:
        raise _too_slow(limits.body_seconds) from None
    except (web.RequestPayloadError, HTTPException):
        raise _broken() from None


async def _read(request: BaseRequest, limit: int) -> bytes:
    received = bytearray()
    async for chunk in request.content.iter_any():
        received += chunk
        if len(received) > limit:
            raise _too_large(limit)
    return bytes(received)


def _check_type(request: BaseRequest) -> None:
    declared = request.headers.get("Content-Type")
    if declared is not None and request.content_type != "application/json":
        raise Problem(
            415,
            "wrong-type",
            f"the body is declared as {shown(declared)}, not application/json",
            field="Content-Type",
            value=shown(declared),
            remedy="send Content-Type: application/json (curl: --json instead of --data)",
        )
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise Problem(
            415,
            "wrong-encoding",
            f"the body is declared as {shown(encoding)}",
            field="Content-Encoding",
            value=shown(encoding),
            remedy="send it uncompressed",
        )


async def _go_on(request: BaseRequest) -> None:
    """Answer ``Expect: 100-continue``, which curl sends before a large body."""
    expected = request.headers.get("Expect")
    if expected is None:
        return
    if expected.lower() != "100-continue":
        raise Problem(
            417,
            "expectation",
            "the only expectation that is met is 100-continue",
            field="Expect",
            value=shown(expected),
            remedy="leave out the header Expect",
        )
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "too-large",
        f"the body is larger than {limit} bytes",
        remedy="send less; a job's environment is the only thing that may be large",
        headers={"Connection": "close"},
    )


def _too_slow(seconds: float) -> Problem:
    return Problem(
        408,
        "too-slow",
        f"the body did not arrive within {seconds:g} s",
        remedy="send it at once",
        headers={"Connection": "close"},
    )


def _broken() -> Problem:
    return Problem(
        400,
        "broken-body",
        "the body ended early or its chunks are malformed",
        remedy="send Content-Length bytes, or well-formed chunks",
        headers={"Connection": "close"},
    )
