"""A job's own socket: whoever comes over it is that job, and sees and changes nothing else."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.control.routes import Route
from spotwatchd.control.table import ROUTES
from spotwatchd.errors import DaemonUnreachable
from spotwatchd.wire import http
from spotwatchd.wire.paths import SOCKET_NAME
from tests.shell.control.conftest import JOB, Daemon, Until
from tests.shell.control.test_openapi import VALID
from tests.shell.control.wire import Reply, Stranger, curl, raw, request

OWN = [route for route in ROUTES if route.inside]
ids = [f"{route.method} {route.path}" for route in ROUTES]


class Container:
    """What a container sees of the daemon: one socket."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.daemon = daemon
        self.path = home / "inside" / SOCKET_NAME
        self.path.parent.mkdir(mode=0o755)
        self.fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)

    async def open(self) -> None:
        assert self.daemon.server is not None
        self.daemon.server.doors.open("resnet", self.fd)
        await self.daemon.server.doors.ready("resnet")

    async def call(self, method: str, target: str, body: Any = None) -> Any:
        return await asyncio.to_thread(http.request, str(self.path), method, target, body)


@pytest.fixture
async def inside(up: Daemon, home: Path) -> AsyncIterator[Container]:
    """The socket of the job resnet, beside another job."""
    await up.call("POST", "/v1/jobs", {**JOB, "name": "another"})
    made = Container(up, home)
    await made.open()
    yield made
    os.close(made.fd)


def _body(route: Route, name: str) -> bytes:
    if route.body is None:
        return b""
    kind = getattr(route.body, "__name__", "ReplicatorEvent")
    valid = VALID[kind]
    return json.dumps({**valid, "name": name} if "name" in valid else valid).encode()


async def _say(inside: Container, route: Route, name: str) -> Reply:
    data = request(route.method, route.path.replace("{name}", name), _body(route, name))
    return await raw(inside.path, data)


@pytest.mark.parametrize("route", ROUTES, ids=ids)
async def test_another_job_cannot_be_touched(inside: Container, route: Route) -> None:
    """On each route: 403, whether there is such a job or not, and the desk hears nothing."""
    if route.path == "/v1/openapi.json":
        assert (await inside.call("GET", route.path))["openapi"]
        return
    before = {name: list(job.said) for name, job in inside.daemon.desk.jobs.items()}
    for name in ("another", "no-such-job"):
        reply = await _say(inside, route, name)
        assert reply.status == 403, reply.body
        assert reply.json()["type"].endswith("not-this-job")
        assert "resnet" in reply.json()["detail"]
    assert {name: job.said for name, job in inside.daemon.desk.jobs.items()} == before
    assert inside.daemon.desk.interruptions == []


@pytest.mark.parametrize("route", ROUTES, ids=ids)
async def test_what_it_may_of_its_own(inside: Container, route: Route) -> None:
    """Its own job is asked, saved and stopped; what is the replicator's or everybody's is not."""
    if route.follow is not None and route.inside:
        return  # it does not end: the next test reads it
    reply = await _say(inside, route, "resnet")
    assert (reply.status < 300) == route.inside, reply.body
    assert reply.status < 300 or reply.status == 403


def test_what_is_open_to_containers() -> None:
    """A new route is closed to them until somebody decides otherwise."""
    assert {f"{route.method} {route.path}" for route in OWN} == {
        "GET /v1/openapi.json",
        "POST /v1/jobs",
        "GET /v1/jobs/{name}",
        "POST /v1/jobs/{name}/processes",
        "POST /v1/jobs/{name}/checkpoints",
        "POST /v1/jobs/{name}/progress",
        "POST /v1/jobs/{name}/finish",
        "POST /v1/jobs/{name}/ask",
        "POST /v1/jobs/{name}/stop",
        "POST /v1/jobs/{name}/log",
        "GET /v1/jobs/{name}/events",
    }


async def test_its_events_arrive(inside: Container, soon: Until) -> None:
    """The stream of its own job carries what happens to it."""

    def first() -> Any:
        target = "/v1/jobs/resnet/events"
        return next(iter(http.stream(str(inside.path), target, idle_timeout=20)))

    reading = asyncio.create_task(asyncio.to_thread(first))
    events = inside.daemon.desk.jobs["resnet"].events
    await soon(lambda: bool(events.readers), "somebody reads")
    events.say({"event": "ask", "number": 1})
    assert await reading == {"event": "ask", "number": 1}


async def test_registering_again_changes_nothing(inside: Container) -> None:
    """A program that names itself gets its job as it is, with the host's paths untouched."""
    body = {"name": "resnet", "checkpoint_dir": "/in/the/container", "argv": None}
    answer = await inside.call("POST", "/v1/jobs", body)
    assert answer["name"] == "resnet"
    assert inside.daemon.desk.jobs["resnet"].body.checkpoint_dir == JOB["checkpoint_dir"]


@pytest.mark.root
async def test_the_uid_decides_nothing(inside: Container, other_uid: int) -> None:
    """A uid that maps to nobody here speaks for the job; root does not speak for others."""
    own = await curl(inside.path, "/v1/jobs/resnet", uid=other_uid)
    assert own.status == 200
    assert (await curl(inside.path, "/v1/jobs/another", uid=0)).status == 403
    assert (await curl(inside.path, "/v1/interrupt", "--json", "{}", uid=0)).status == 403


async def test_a_process_that_joins_is_known_to_be_inside(inside: Container) -> None:
    """The desk is told so: paths of the host mean nothing there."""
    await inside.call("POST", "/v1/jobs/resnet/processes", {})
    await inside.daemon.call("POST", "/v1/jobs/resnet/processes", {})
    peers = [peer for peer, _ in inside.daemon.desk.jobs["resnet"].processes]
    assert [peer.inside for peer in peers] == [True, False]


async def test_a_job_that_is_gone_has_an_empty_socket(inside: Container) -> None:
    """Its name is not free for whoever still has the socket."""
    del inside.daemon.desk.jobs["resnet"]
    with pytest.raises(http.ProblemError) as caught:
        await inside.call("POST", "/v1/jobs", JOB)
    assert caught.value.status == 404


async def test_it_is_the_same_directory_after_a_restart(inside: Container) -> None:
    """A daemon that starts anew listens where the container has its mount."""
    assert inside.daemon.server is not None
    await inside.daemon.server.close()
    with pytest.raises(DaemonUnreachable):
        await inside.call("GET", "/v1/jobs/resnet")
    await inside.daemon.start()
    await inside.open()
    assert (await inside.call("GET", "/v1/jobs/resnet"))["name"] == "resnet"


async def test_closed_with_the_job(inside: Container) -> None:
    """Who is connected is cut off, and nobody else gets in."""
    assert inside.daemon.server is not None
    caller = await asyncio.to_thread(Stranger, inside.path)
    try:
        inside.daemon.server.doors.close("resnet")
        assert await asyncio.to_thread(caller.connection.recv, 1) == b""
        with pytest.raises(DaemonUnreachable):
            await inside.call("GET", "/v1/jobs/resnet")
    finally:
        caller.connection.close()
        await asyncio.to_thread(caller.end)
