"""The HTTP side of the fake: the metadata as EC2 serves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate

from aiohttp import web

from spotwatchd.testing.faults import Faults, Saboteur
from spotwatchd.testing.instance import VERSIONS, listing, lookup
from spotwatchd.testing.scene import Request, Scene, Tokens

_TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"


class Service:
    """Answers metadata requests. One per fake; lives in one loop."""

    def __init__(
        self,
        scene: Scene,
        tokens: Tokens,
        faults: Faults,
        *,
        now: Callable[[], float],
        closing: asyncio.Event,
    ) -> None:
        self._scene = scene
        self._tokens = tokens
        self._faults = faults
        self._now = now
        self._saboteur = Saboteur(closing)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request that is not for the control API."""
        fault = self._faults.strike(request.path)
        if fault is None or (fault.kind == "unauthorized" and request.method == "PUT"):
            return self._respond(request)
        return await self._saboteur.answer(request, fault, lambda: self._respond(request))

    def _respond(self, request: web.Request) -> web.Response:
        response = self._answer(request)
        bad_date = self._faults.standing("bad-date") is not None
        response.headers["Date"] = "whenever" if bad_date else formatdate(self._now(), usegmt=True)
        response.headers["Server"] = "EC2ws"
        return response

    def _answer(self, request: web.Request) -> web.Response:
        version, _, path = request.path.lstrip("/").partition("/")
        if request.method == "PUT" and path == "api/token":
            return self._issue(request, version)
        if request.method not in ("GET", "HEAD") or path == "api/token":
            return web.Response(status=405)
        headers, refused = self._authorize(request)
        if refused:
            return web.Response(status=401)
        body = self._body(version, path)
        if body is None:
            return web.Response(status=404, headers=headers, content_type="text/plain")
        return web.Response(body=body, headers=headers, content_type="text/plain")

    def _issue(self, request: web.Request, version: str) -> web.Response:
        # A request that came through a proxy is an attack as far as EC2 is concerned.
        if version != "latest" or "X-Forwarded-For" in request.headers:
            return web.Response(status=403)
        issued = self._tokens.issue(request.headers.get(_TTL))
        if issued is None:
            return web.Response(status=400)
        value, seconds = issued
        return web.Response(text=value, headers={_TTL: str(seconds)})

    def _authorize(self, request: web.Request) -> tuple[dict[str, str], bool]:
        token = request.headers.get(_TOKEN)
        if token is None:
            return {}, self._tokens.required
        left = self._tokens.seconds_left(token)
        return ({}, True) if left is None else ({_TTL: str(left)}, False)

    def _body(self, version: str, path: str) -> bytes | None:
        if not version:
            return "".join(f"{name}\n" for name in VERSIONS).encode()
        if version not in VERSIONS:
            return None
        override = self._scene.overrides.get(path.strip("/"))
        if override is not None:
            return override
        sliding = self._faults.standing("sliding") is not None
        node = lookup(self._scene.tree(self._now() + 120 if sliding else None), path)
        if node is None:
            return None
        return (node if isinstance(node, str) else listing(node)).encode()


def note(request: web.Request) -> Request:
    """The record of a request."""
    return Request(request.method, request.path, time.monotonic())
