"""Every wrong request is answered with what, where and remedy, and the next one works."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.shell.control.conftest import JOB, Daemon
from tests.shell.control.wire import Reply, curl, raw, request

SECRET = "hunter2-hunter2"  # noqa: S105 - what must not come back


def _checked(reply: Reply, status: int) -> dict[str, Any]:
    problem: dict[str, Any] = reply.json()
    assert reply.status == status, problem
    assert "Content-Type: application/problem+json" in reply.head
    assert "aiohttp" not in reply.head
    assert problem["status"] == status
    assert problem["type"].startswith("urn:spotwatchd:problem:")
    for member in ("title", "detail", "where", "remedy"):
        assert problem[member], member
    return problem


async def _job(up: Daemon, body: bytes) -> Reply:
    return await raw(up.path, request("POST", "/v1/jobs", body))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"17",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        '{"name": "a"}'.encode("utf-16"),
        b'{"name": NaN}',
        b'{"interval": Infinity}',
        b'{"interval": -Infinity}',
        b'{"interval": 1e999}',
        b'{"interval": ' + b"9" * 5000 + b"}",
        b'{"interval": 9007199254740993}',
        b'{"name": "a", "name": "b"}',
        b'{"env": {"A": "1", "A": "2"}}',
        b'{"name": "\\ud800"}',
        b'{"\\udc80": 1}',
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"[" * 17 + b"]" * 17 + b"}",
        b'{"name": "a"} {"name": "b"}',
    ],
    ids=lambda body: body[:24].decode("ascii", "replace"),
)
async def test_not_a_json_object(up: Daemon, body: bytes) -> None:
    """Text that is not one sane JSON object answers 400."""
    problem = _checked(await _job(up, body), 400)
    assert problem["type"].endswith(":not-json")
    assert await up.call("GET", "/v1/jobs")


BAD: dict[str, list[Any]] = {
    "name": ["", ".a", "-a", "a/b", "a b", "é", "a\n", "a" * 65, "..", 1, None],
    "checkpoint_dir": [
        *("", "/", "a", "./a", "/a/..", "/../a", "/a/../b", "/a\x00b", "/a\n/../b", "/a/\n"),
        "/" + "a" * 4095,
    ],
    "argv": [[], [""], ["a", 1], ["a", "b\x00"], "python train.py", {}, [["a"]]],
    "cwd": ["here", "", "/a/.."],
    "env": [["A=1"], "A=1", None],
    "env.A": [{"A": 1}, {"A": "x\x00y"}, {"A=B": "x"}],
    "env.": [{"": "x"}],
    "checkpoint_glob": ["", "/etc/*", "../*", "a/../*"],
    "store": [
        *("", "s3:/bucket", "s3://", "s3://B", "s3://bucket/a?b", "s3://bucket/../other"),
        *("s3://user:pass@bucket/a", "s3://bucket/a b", "http://bucket", "/mnt/efs"),
        *("file://relative", "file:///", "file:///a/../b"),
    ],
    "signal": ["SIGKILL", "SIGSTOP", "TERM", "SIGNOPE", "sigterm", 15, ""],
    "interval": [-1, -0.001, 2_592_001, "60", True, []],
    "run_id": ["", "a/b", "a" * 129, 5],
}
BAD_FIELDS = [(field, value) for field, values in BAD.items() for value in values]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
async def test_a_wrong_field_of_a_job(up: Daemon, field: str, value: Any) -> None:
    """A field that is wrong answers 422 and is named; nothing reaches the desk."""
    top = field.partition(".")[0]
    reply = await _job(up, json.dumps({**JOB, "name": "other", top: value}).encode())
    problem = _checked(reply, 422)
    assert problem["field"].partition("[")[0] == field
    assert field in problem["detail"]
    assert problem["where"] == "POST /v1/jobs"
    assert len(problem.get("value", "")) <= 80
    assert list(up.desk.jobs) == ["resnet"]


BAD_BODIES: list[tuple[str, str, str]] = [
    ("processes", '{"rank": -1}', "rank"),
    ("processes", '{"rank": 1}', "rank"),
    ("processes", '{"rank": 2, "world_size": 2}', "rank"),
    ("processes", '{"rank": 1.0, "world_size": 2}', "rank"),
    ("processes", '{"rank": true, "world_size": 2}', "rank"),
    ("processes", '{"world_size": 0}', "world_size"),
    ("processes", '{"step": -1}', "step"),
    ("processes", '{"step": 1000000000000}', "step"),
    ("processes", '{"pid": 1}', "pid"),
    ("checkpoints", '{"step": 1}', "phase"),
    ("checkpoints", '{"phase": "sealed"}', "step"),
    ("checkpoints", '{"phase": "done", "step": 1}', "phase"),
    ("checkpoints", '{"phase": "sealed", "step": 1}', "path"),
    ("checkpoints", '{"phase": "sealed", "step": 1, "path": "/etc/passwd"}', "path"),
    ("checkpoints", '{"phase": "sealed", "step": 1, "path": "a/../../b"}', "path"),
    ("checkpoints", '{"phase": "sealed", "step": 1, "path": ".."}', "path"),
    ("checkpoints", '{"phase": "sealed", "step": 1, "path": "a", "mark": "x"}', "mark"),
    ("checkpoints", '{"phase": "saving", "step": 1, "ask": -1}', "ask"),
    ("checkpoints", '{"phase": "saving", "step": 1, "seconds": -1}', "seconds"),
    ("checkpoints", '{"phase": "saving", "step": 1, "rank": 1}', "rank"),
    ("progress", "{}", "step"),
    ("progress", '{"step": null}', "step"),
    ("progress", '{"step": "9"}', "step"),
    ("finish", '{"step": 1.5}', "step"),
    ("replicator/events", "{}", "event"),
    ("replicator/events", '{"event": 1}', "event"),
    ("replicator/events", '{"event": "No Such"}', "event"),
    ("replicator/events", '{"event": "taken", "no": -1}', "no"),
]


@pytest.mark.parametrize(("target", "body", "field"), BAD_BODIES)
async def test_a_wrong_field_of_the_others(up: Daemon, target: str, body: str, field: str) -> None:
    """The other bodies name the field too."""
    reply = await raw(up.path, request("POST", f"/v1/jobs/resnet/{target}", body.encode()))
    assert _checked(reply, 422)["field"] == field
    assert up.desk.jobs["resnet"].said == []
    assert up.desk.jobs["resnet"].processes == []


@pytest.mark.parametrize(
    ("body", "field"),
    [({"seconds": -1}, "seconds"), ({"seconds": 90_000}, "seconds"), ({"action": "x"}, "action")],
)
async def test_a_wrong_interruption(up: Daemon, body: dict[str, Any], field: str) -> None:
    """A notice by hand has a deadline and an action that exist."""
    problem = await up.refused("POST", "/v1/interrupt", body)
    assert (problem.status, problem.problem["field"]) == (422, field)
    assert up.desk.interruptions == []


@pytest.mark.parametrize(
    "body",
    [
        {**JOB, "env": {"TOKEN": SECRET, "OTHER": 1}},
        {**JOB, "env": {"TOKEN": [SECRET]}},
        {**JOB, "env": {"TOKEN": SECRET + "\x00"}},
        {**JOB, "env": [f"TOKEN={SECRET}"]},
        {**JOB, "env": {f"TOKEN={SECRET}": ""}},
        {**JOB, "env": SECRET},
        {**JOB, "environment": {"TOKEN": SECRET}},
        {**JOB, "env": {"TOKEN": SECRET + "\ud800"}},
        {**JOB, "store": f"s3://key:{SECRET}@bucket/prefix"},
    ],
)
async def test_no_secret_comes_back(up: Daemon, body: dict[str, Any]) -> None:
    """The environment, and a password in a URL, are never repeated."""
    reply = await _job(up, json.dumps(body).encode())
    assert reply.status in (400, 422)
    assert SECRET.encode() not in reply.body


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
async def test_the_numbers_that_json_has_not(up: Daemon, word: str) -> None:
    """NaN and the infinities are called by name."""
    problem = _checked(await _job(up, f'{{"interval": {word}}}'.encode()), 400)
    assert f"{word} is not a JSON number" in problem["detail"]


async def test_broken_json_is_not_quoted(up: Daemon) -> None:
    """Text that does not parse is described by position only."""
    reply = await _job(up, b'{"env": {"TOKEN": "' + SECRET.encode() + b'"')
    assert "line 1 column" in _checked(reply, 400)["detail"]
    assert SECRET.encode() not in reply.body


async def test_a_long_value_is_cut(up: Daemon) -> None:
    """80 characters of a wrong value are enough."""
    problem = _checked(await _job(up, json.dumps({**JOB, "name": "x" * 9000}).encode()), 422)
    assert len(problem["value"]) == 80
    assert problem["value"].endswith("...")


async def test_unknown_fields_name_the_known(up: Daemon) -> None:
    """A misspelt field is refused and the right ones are listed."""
    problem = await up.refused("POST", "/v1/jobs", {**JOB, "chekpoint_glob": "*"})
    assert problem.problem["field"] == "chekpoint_glob"
    assert "checkpoint_glob" in problem.remedy


@pytest.mark.parametrize(
    ("path", "close"),
    [
        ("/v1/statu", "/v1/status"),
        ("/v1/job", "/v1/jobs"),
        ("/v1/jobs/resnet/event", "/v1/jobs/{name}/events"),
        ("/", "/v1/"),
        ("/v2/status", "/v1/status"),
        ("/v1/jobs/", "/v1/jobs"),
        ("/v1//status", "/v1/status"),
        ("/v1/status/../jobs", "/v1/"),
        ("/%2e%2e/x", "/v1/"),
    ],
)
async def test_an_unknown_route(up: Daemon, path: str, close: str) -> None:
    """404 lists the routes that are close."""
    problem = _checked(await raw(up.path, request("GET", path)), 404)
    assert problem["type"].endswith(":no-route")
    assert close in problem["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/jobs/resnet", "GET"),
        ("POST", "/v1/status", "GET"),
        ("PUT", "/v1/jobs", "GET, POST"),
        ("GET", "/v1/jobs/resnet/ask", "POST"),
        ("OPTIONS", "/v1/jobs", "GET, POST"),
    ],
)
async def test_a_wrong_method(up: Daemon, method: str, path: str, allow: str) -> None:
    """405 names the methods that there are."""
    reply = await raw(up.path, request(method, path))
    assert allow in _checked(reply, 405)["remedy"]
    assert f"Allow: {allow}\r\n" in reply.head


@pytest.mark.parametrize(
    "name", ["nope", "RESNET", "a" * 5000, "%00", "%ff", "..", "a%2Fb", "%C3%A9"]
)
@pytest.mark.parametrize("tail", ["", "/events", "/replicator/commands"])
async def test_no_such_job(up: Daemon, name: str, tail: str) -> None:
    """A job that does not exist answers 404, whatever its name looks like."""
    reply = await raw(up.path, request("GET", f"/v1/jobs/{name}{tail}"))
    problem = _checked(reply, 404)
    assert problem["type"].endswith(":no-job")
    assert "no job" in problem["detail"]
    assert len(reply.body) < 1000


async def test_a_query_is_refused(up: Daemon) -> None:
    """Nobody believes that ?uid=0 did something."""
    assert _checked(await raw(up.path, request("GET", "/v1/status?uid=0")), 400)


async def test_a_body_where_none_is_taken(up: Daemon) -> None:
    """A body for a route without one is not ignored."""
    _checked(await raw(up.path, request("POST", "/v1/jobs/resnet/ask", b'{"now": true}')), 422)
    assert up.desk.jobs["resnet"].asks == 0


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: nonsense\r\n",
        "Content-Encoding: gzip\r\n",
    ],
)
async def test_another_content_type(up: Daemon, headers: str) -> None:
    """Only application/json, or nothing, is taken."""
    body = json.dumps(JOB).encode()
    reply = await raw(up.path, request("POST", "/v1/jobs", body, headers=headers))
    problem = _checked(reply, 415)
    assert problem["field"] in headers
    assert problem["remedy"]


async def test_content_type_with_a_charset(up: Daemon) -> None:
    """application/json; charset=utf-8 is JSON."""
    body = json.dumps(JOB).encode()
    headers = "Content-Type: application/json; charset=utf-8\r\n"
    assert (await raw(up.path, request("POST", "/v1/jobs", body, headers=headers))).status == 200


async def test_curl_with_form_data_is_told_what_to_do(up: Daemon) -> None:
    """The commonest slip of the hand has its remedy."""
    problem = _checked(await curl(up.path, "/v1/jobs", "-d", json.dumps(JOB)), 415)
    assert "--json" in problem["remedy"]
