"""The document says what the server does."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotwatchd.control import openapi, parse
from spotwatchd.control.bodies import (
    Body,
    ControlBody,
    FinishBody,
    InterruptBody,
    JobBody,
    LogBody,
    ProcessBody,
    ProgressBody,
    SealBody,
)
from spotwatchd.control.constraints import Rule
from spotwatchd.control.limits import Limits
from spotwatchd.control.problems import Problem
from spotwatchd.control.routes import Route
from spotwatchd.control.schema import schema_of, value_schema
from spotwatchd.control.table import ROUTES
from tests.shell.control.conftest import JOB, Daemon
from tests.shell.control.wire import Reply, curl, raw, request

BODIES: list[type[Body]] = [
    JobBody,
    ProcessBody,
    SealBody,
    ProgressBody,
    FinishBody,
    InterruptBody,
    ControlBody,
    LogBody,
]
VALID: dict[str, Any] = {
    "JobBody": {**JOB, "name": "another"},
    "ProcessBody": {"rank": 0},
    "SealBody": {"phase": "saving", "step": 3},
    "ProgressBody": {"step": 3},
    "FinishBody": {},
    "InterruptBody": {"seconds": 5},
    "ControlBody": {"name": "another", "do": "stop"},
    "LogBody": {"attempt": 1},
    "ReplicatorEvent": {"event": "hello"},
}
ids = [f"{route.method} {route.path}" for route in ROUTES]


def _told(route: Route) -> dict[str, Any]:
    document = openapi.document(ROUTES, Limits())
    told: dict[str, Any] = document["paths"][route.path][route.method.lower()]
    return told


def _valid(route: Route) -> bytes:
    body = _told(route).get("requestBody")
    if body is None:
        return b""
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return json.dumps(VALID[name]).encode()


@pytest.mark.parametrize("route", ROUTES, ids=ids)
async def test_each_route_answers_as_documented(up: Daemon, route: Route) -> None:
    """A valid request gets a documented success of the documented type."""
    target = route.path.replace("{name}", "resnet")
    data = request(route.method, target, _valid(route))
    reply = await (_head(up, data) if route.follow else raw(up.path, data))
    told = _told(route)["responses"][str(reply.status)]
    assert reply.status < 300
    (kind,) = told["content"]
    assert f"Content-Type: {kind}\r\n" in reply.head


async def _head(up: Daemon, data: bytes) -> Reply:
    """The head of an answer that has no end of its own."""
    reader, writer = await asyncio.open_unix_connection(str(up.path))
    writer.write(data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    await writer.wait_closed()
    return Reply(int(head.split()[1]), head, b"")


@pytest.mark.parametrize("route", ROUTES, ids=ids)
async def test_each_route_refuses_as_documented(up: Daemon, route: Route) -> None:
    """Every refusal that can be provoked from outside has a documented status and is a problem."""
    target = route.path.replace("{name}", "resnet")
    absent = route.path.replace("{name}", "absent")
    limit = route.body_limit(Limits())
    provoked = [
        request(route.method, target, b"nonsense"),
        request(route.method, target, b'{"surprise": 1}'),
        request(route.method, target, b"{}", headers="Content-Type: text/plain\r\n"),
        request(route.method, target, b" " * (limit + 1)),
        request(route.method, target + "?a=b"),
        request(route.method, absent, _valid(route)) if route.of_job else b"",
    ]
    documented = _told(route)["responses"]
    for data in filter(None, provoked):
        reply = await raw(up.path, data)
        # A GET takes no body worth naming: its refusals of one are the default.
        assert str(reply.status) in documented or route.method == "GET", reply
        assert 400 <= reply.status < 500
        assert "application/problem+json" in reply.head


async def test_the_server_serves_its_own_table(up: Daemon) -> None:
    """The document lists exactly the routes there are, and curl can have it."""
    document = (await curl(up.path, "/v1/openapi.json")).json()
    assert document == json.loads(json.dumps(openapi.document(ROUTES, Limits())))
    told = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert told == {(route.method, route.path) for route in ROUTES}
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for key, operation in item.items()
        if key != "parameters"
    ]
    assert len(set(names)) == len(names) == len(ROUTES)
    assert str(os.getpid()) not in json.dumps(document)


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*(_references(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(each) for each in value))
    return set()


def test_every_reference_leads_somewhere() -> None:
    """Nothing in the document dangles, and no schema is unused."""
    document = openapi.document(ROUTES, Limits())
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert _references(document) == schemas


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_field_says_what_it_may_hold(body: type[Body]) -> None:
    """Each field of a body has a constraint in words, and its default obeys it."""
    schema = schema_of(body)
    assert set(schema["properties"]) == {each.name for each in fields(body)}
    for name, told in schema["properties"].items():
        assert told["description"], name
        if "default" in told:
            parse.obey(told, told["default"], name)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.parametrize("junk", [None, True, 1, -1, 1.5, "x", "", [], [1], {}, {"a": 1}])
def test_parser_and_schema_agree_on_types(body: type[Body], junk: Any) -> None:
    """For every field a value of a type that the schema does not list is refused by name."""
    names = {
        type(None): "null",
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    for name, told in schema_of(body)["properties"].items():
        kinds = told["type"] if isinstance(told["type"], list) else [told["type"]]
        own = names[type(junk)]
        if own in kinds or (own == "integer" and "number" in kinds):
            continue
        with pytest.raises(Problem) as caught:
            parse.obey(told, junk, name)
        assert caught.value.field == name
        assert caught.value.status == 422


@given(st.integers(-(2**60), 2**60) | st.floats(allow_nan=False), st.integers(-9, 9))
@settings(max_examples=200, deadline=None)
def test_bounds_are_inclusive(value: float, low: int) -> None:
    """The minimum and maximum of the schema are what the parser enforces."""
    schema = {"type": "number", "minimum": low, "maximum": low + 5}
    if low <= value <= low + 5:
        parse.obey(schema, value, "x")
    else:
        with pytest.raises(Problem):
            parse.obey(schema, value, "x")


def test_what_no_body_may_hold() -> None:
    """An annotation without a JSON shape is a mistake of ours, found when it is made."""
    for hint in (bytes, int | str, set[int], object):
        with pytest.raises(TypeError):
            value_schema(hint)
    assert hash(Rule("x", {"minimum": 1})) == hash(Rule("x"))
