"""Which route a request means; what is close when none does."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from urllib.parse import unquote

from spotwatchd.control.problems import Problem
from spotwatchd.control.routes import Route

_NAME = "{name}"


def find(routes: Sequence[Route], method: str, path: str) -> tuple[Route, str]:
    """The route for ``method`` and the raw ``path``, and the job's name ("" when none).

    Raises:
        Problem: 404 with the routes that are close, 405 with the methods that there are.
    """
    parts = [unquote(part, errors="replace") for part in path.split("/")]
    here = [(route, name) for route in routes if (name := _match(route, parts)) is not None]
    for route, name in here:
        if route.method == method:
            return route, name
    if here:
        raise _wrong_method(method, path, [route.method for route, _ in here])
    raise _unknown(routes, path)


def _match(route: Route, parts: list[str]) -> str | None:
    wanted = route.path.split("/")
    if len(wanted) != len(parts):
        return None
    name = ""
    for want, part in zip(wanted, parts, strict=True):
        if want == _NAME and part:
            name = part
        elif want != part:
            return None
    return name


def _wrong_method(method: str, path: str, methods: list[str]) -> Problem:
    allowed = ", ".join(sorted(methods))
    return Problem(
        405,
        "wrong-method",
        f"{path[:80]} does not take {method[:16]}",
        remedy=f"use {allowed}",
        headers={"Allow": allowed},
    )


def _unknown(routes: Sequence[Route], path: str) -> Problem:
    known = sorted({route.path for route in routes})
    close = difflib.get_close_matches(path[:200], known, n=3, cutoff=0.4)
    return Problem(
        404,
        "no-route",
        f"there is nothing at {path[:80]}",
        remedy=f"close: {', '.join(close or known[:3])}; all are in GET /v1/openapi.json",
    )
