"""No caller can take more than its share."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from spotwatchd.control.connections import Gate
from spotwatchd.control.limits import Limits
from spotwatchd.wire.http import ProblemError
from tests.shell.control.conftest import JOB, Daemon, Until
from tests.shell.control.wire import curl, exchange, raw, request


def _connect(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(40)
    made.connect(str(path))
    return made


async def test_a_full_environment_passes(up: Daemon) -> None:
    """A body just below the limit is taken."""
    env = {f"V{number}": "x" * 1000 for number in range(1000)}
    await up.call("POST", "/v1/jobs", {**JOB, "name": "big", "env": env})
    assert up.desk.jobs["big"].body.env == env


@pytest.mark.parametrize(("size", "target"), [(1 << 20, ""), (16 << 10, "/resnet/progress")])
async def test_a_body_that_is_too_large(up: Daemon, size: int, target: str) -> None:
    """413 reaches the client, though it was still sending; the next request works."""
    problem = await up.refused("POST", f"/v1/jobs{target}", {"pad": "x" * size})
    assert problem.status == 413
    assert str(size) in problem.what
    assert await up.call("GET", "/v1/jobs")


async def test_a_body_that_does_not_say_how_large(up: Daemon) -> None:
    """Chunks are counted too."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await raw(up.path, head + 20 * chunk)).status == 413


async def test_curl_waits_for_leave_to_send(up: Daemon, home: Path) -> None:
    """Expect: 100-continue is answered at once, for a body that fits and one that does not."""
    fits = home / "fits"
    fits.write_text(json.dumps({**JOB, "name": "c", "env": {f"V{n}": "y" * 900 for n in range(9)}}))
    expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "15"]
    start = asyncio.get_running_loop().time()
    assert (await curl(up.path, "/v1/jobs", *expect, "--json", f"@{fits}")).status == 201
    large = home / "large"
    large.write_text("x" * (3 << 20))
    assert (await curl(up.path, "/v1/jobs", *expect, "--json", f"@{large}")).status == 413
    assert asyncio.get_running_loop().time() - start < 10
    other = request("POST", "/v1/jobs", b"{}", headers="Expect: miracles\r\n")
    assert (await raw(up.path, other)).status == 417


async def test_a_slow_body(daemon: Daemon) -> None:
    """A body that does not come is given up with 408."""
    await daemon.start(limits=Limits(body_seconds=0.2, linger_seconds=0.1))
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
    reply = await raw(daemon.path, head)
    assert reply.status == 408
    assert reply.json()["remedy"]


@pytest.mark.parametrize("sent", [b"", b"GET /v1/sta", b"GET /v1/status HTTP/1.1\r\nHost: x\r\n"])
async def test_a_slow_head(daemon: Daemon, sent: bytes, soon: Until) -> None:
    """A connection without a complete request is closed."""
    await daemon.start(limits=Limits(idle_seconds=0.2))
    assert await asyncio.to_thread(exchange, daemon.path, sent) == b""
    assert daemon.server is not None
    await soon(lambda: not daemon.server or not daemon.server.connections, "its place is free")


async def test_an_idle_connection_is_closed(daemon: Daemon) -> None:
    """Keep-alive has an end."""
    await daemon.start(limits=Limits(idle_seconds=0.2))
    idle = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
    assert (await raw(daemon.path, idle)).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000 + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello there, is anybody in\r\n\r\n", 400),
        (b"GET /v1/status HTTP/9.9\r\n\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
        (
            b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            400,
        ),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
async def test_what_is_not_http(up: Daemon, head: bytes, status: int) -> None:
    """A flood of headers, another protocol and malformed framing get a problem, not a crash."""
    reply = await raw(up.path, head)
    assert reply.status == status
    assert reply.json()["remedy"]
    assert "application/problem+json" in reply.head
    assert await up.call("GET", "/v1/jobs")


async def test_too_many_connections(daemon: Daemon, soon: Until) -> None:
    """One above the limit is told so, even after it sent its request; a free place is taken."""
    server = await daemon.start(limits=Limits(connections=3, reserved=1, linger_seconds=0.3))
    held = [_connect(daemon.path) for _ in range(3)]
    await soon(lambda: server.connections == 3, "three are in")
    problem = await daemon.refused("GET", "/v1/status")
    assert problem.status == 503
    assert "3 connections" in problem.what
    held.pop().close()
    await soon(lambda: server.connections == 2, "one has left")
    assert await daemon.call("GET", "/v1/status")
    for each in held:
        each.close()
    await soon(lambda: server.connections == 0, "all have left")


async def test_refused_peers_do_not_pile_up(daemon: Daemon, soon: Until) -> None:
    """Of many refused peers that do not hang up only a few linger."""
    server = await daemon.start(limits=Limits(connections=2, reserved=1, linger_seconds=5))
    held = [_connect(daemon.path) for _ in range(2)]
    await soon(lambda: server.connections == 2, "two are in")
    refused = [_connect(daemon.path) for _ in range(20)]
    answers = await asyncio.to_thread(lambda: [each.recv(4096) for each in refused])
    assert all(answer.startswith(b"HTTP/1.1 503") for answer in answers)
    assert server.connections == 2
    for each in held + refused:
        each.close()


async def test_a_refused_peer_may_finish_talking(daemon: Daemon, soon: Until) -> None:
    """Whoever sends a long request after the refusal still reads why."""
    server = await daemon.start(limits=Limits(connections=2, reserved=1))
    held = [_connect(daemon.path) for _ in range(2)]
    await soon(lambda: server.connections == 2, "two are in")

    def talk() -> bytes:
        with _connect(daemon.path) as late:
            late.recv(1, socket.MSG_PEEK)
            late.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n" * 50_000)
            return late.recv(65536)

    assert (await asyncio.to_thread(talk)).startswith(b"HTTP/1.1 503")
    for each in held:
        each.close()


def test_the_gate_counts_users_apart() -> None:
    """One user cannot take the places of another, nor the reserve of root."""
    limits = Limits(connections_per_uid=3, reserved=2)
    gate = Gate(limits, total=8, privileged=frozenset({0}))
    assert [gate.enter(1000) is None for _ in range(4)] == [True, True, True, False]
    refusal = gate.enter(1000)
    assert refusal is not None
    assert refusal.status == 429
    assert [gate.enter(1001) is None for _ in range(3)] == [True, True, True]
    refusal = gate.enter(1002)
    assert refusal is not None
    assert refusal.status == 503
    assert gate.enter(0) is None
    assert gate.enter(0) is None
    assert gate.enter(0) is not None
    gate.leave(1000)
    assert gate.enter(1002) is not None  # 7 of 8 are in, and 2 are root's
    gate.leave(0)
    gate.leave(0)
    assert gate.enter(1002) is None
    assert gate.open == 6


async def test_a_thousand_connect_at_once(up: Daemon) -> None:
    """Ranks that start together are not turned away by a short queue."""

    def all_at_once() -> list[bytes]:
        made = [_connect(up.path) for _ in range(1000)]
        for each in made:
            each.sendall(request("GET", "/v1/jobs/resnet"))
        answers = [each.recv(4096) for each in made]
        for each in made:
            each.close()
        return answers

    answers = await asyncio.to_thread(all_at_once)
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 200"}


async def test_refusals_are_errors_of_the_client(up: Daemon) -> None:
    """wire/http.py raises what the socket refuses."""
    with pytest.raises(ProblemError, match="no job 'x'"):
        await up.call("GET", "/v1/jobs/x")
