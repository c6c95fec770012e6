"""The control API of the fake, ``/fake/v1/...`` on the same port: JSON in, the new state out.

Faults never touch it, so that a broken service can be healed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

State = Callable[[], dict[str, object]]

_NUMBER = (int, float)


# Field -> types of its value, for each order.
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "notice": {"action": str, "seconds": _NUMBER},
    "rebalance": {},
    "event": {"code": str, "seconds": _NUMBER},
    "asg": {"state": (str, type(None))},
    "clear": {},
    "heal": {},
    "fault": {"kind": str, "seconds": _NUMBER, "times": int, "path": str, "amount": _NUMBER},
}


def add_orders(
    app: web.Application, deeds: Mapping[str, Callable[..., object]], state: State
) -> None:
    """Add ``POST /fake/v1/NAME`` for each deed, and ``GET /fake/v1/state``."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response(state())

    app.router.add_get("/fake/v1/state", show)
    for name, deed in deeds.items():
        app.router.add_post(f"/fake/v1/{name}", _order(name, deed, state))


def _order(
    name: str, deed: Callable[..., object], state: State
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            deed(**_arguments(await request.read(), _FIELDS[name]))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            return web.json_response({"error": f"{name}: {error}"}, status=400)
        return web.json_response(state())

    return handle


def _arguments(body: bytes, fields: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    document = json.loads(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - the sender's error
    for name, value in document.items():
        if name not in fields:
            allowed = ", ".join(fields) or "none"
            raise ValueError(f"there is no field {name!r} (fields: {allowed})")
        if not isinstance(value, fields[name]) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}, which is of the wrong type")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, not a finite number")
    return document
