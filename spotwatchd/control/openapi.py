"""The OpenAPI 3.1 document, made from the route table and the bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spotwatchd import __version__
from spotwatchd.control import problems, streams
from spotwatchd.control.limits import Limits
from spotwatchd.control.routes import ReplicatorEvent, Route
from spotwatchd.control.schema import Schema, schema_of

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_ABOUT = (
    "HTTP and JSON over a Unix socket. The kernel says who calls: a user sees and changes "
    "their own jobs, root all. Try: curl --unix-socket PATH http://localhost/v1/status"
)
_MEANS = {
    400: "Not HTTP, not JSON, or a query where none is taken.",
    403: "Only root and the daemon's own user may.",
    404: "No such job of yours.",
    408: "The body did not arrive in time.",
    409: "It contradicts something that was there before.",
    410: "The calling process has ended.",
    413: "The body is too large.",
    415: "The body is neither application/json nor undeclared, or it is compressed.",
    422: "A field is wrong, missing or unknown; `field` names it.",
    500: "A defect of the daemon.",
    503: "The store or the daemon cannot answer now.",
}


def document(routes: Sequence[Route], limits: Limits) -> dict[str, Any]:
    """OpenAPI 3.1 for ``routes``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, limits)
    for path, item in paths.items():
        if "{name}" in path:
            item["parameters"] = [_name_parameter()]
    return {
        "openapi": "3.1.0",
        "info": {"title": "spotwatchd", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "http://localhost"}],
        "paths": paths,
        "components": {"schemas": _schemas(routes)},
    }


def refusals(route: Route) -> list[int]:
    """Statuses of the problems that ``route`` may answer."""
    found = {400, 422, 500, 503, *route.refusals}
    found |= {404} if route.of_job else set()
    found |= {408, 409, 413, 415} if route.method == "POST" else set()
    return sorted(found)


def _operation(route: Route, limits: Limits) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.title,
        "responses": {
            **{str(status): _answer(route, text) for status, text in route.answers},
            **{str(status): _refusal(_MEANS[status]) for status in refusals(route)},
            "default": _refusal("Any other refusal."),
        },
    }
    if route.body is not None:
        operation["requestBody"] = _request(route, limits)
    return operation


def _operation_id(route: Route) -> str:
    words = [part for part in route.path.split("/") if part and part != "v1"]
    return "_".join([route.method.lower(), *(word.strip("{}").split(".")[0] for word in words)])


def _answer(route: Route, text: str) -> dict[str, Any]:
    if route.follow is None:
        return {"description": text, "content": {"application/json": {"schema": {}}}}
    told = (
        "One JSON object per line. An empty line every 5 s says that the daemon is there. "
        'The line {"event": "overflow"} ends the stream of a reader that is too slow.'
    )
    return {"description": told, "content": {streams.CONTENT_TYPE: {"schema": {"type": "string"}}}}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {problems.CONTENT_TYPE: {"schema": _PROBLEM}}}


def _request(route: Route, limits: Limits) -> dict[str, Any]:
    schema = _body_schema(route)
    return {
        "required": bool(schema.get("required")),
        "description": f"At most {route.body_limit(limits)} bytes.",
        "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{_body_name(route)}"}}
        },
    }


def _body_name(route: Route) -> str:
    if isinstance(route.body, ReplicatorEvent):
        return "ReplicatorEvent"
    return getattr(route.body, "__name__", "")


def _body_schema(route: Route) -> Schema:
    if isinstance(route.body, ReplicatorEvent):
        return route.body.schema()
    return schema_of(route.body) if route.body is not None else {}


def _name_parameter() -> dict[str, Any]:
    return {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def _schemas(routes: Sequence[Route]) -> dict[str, Schema]:
    bodies = {_body_name(route): _body_schema(route) for route in routes if route.body is not None}
    text = {"type": "string"}
    problem: Schema = {
        "type": "object",
        "description": "RFC 9457, with the field, its value, the place and the remedy.",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "field": text,
            "value": text,
            "where": text,
            "remedy": text,
        },
        "required": ["type", "title", "status", "detail", "where", "remedy"],
    }
    return {**bodies, "Problem": problem}
