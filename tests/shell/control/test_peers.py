"""The kernel says who calls; nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spotwatchd.control import peers
from spotwatchd.control.problems import Problem
from tests.shell.control.conftest import JOB, Daemon, Until
from tests.shell.control.wire import Reply, Stranger, curl, request

EVERY_ROUTE_OF_A_JOB = [
    ("GET", ""),
    ("GET", "/events"),
    ("GET", "/replicator/commands"),
    ("POST", "/processes"),
    ("POST", "/checkpoints"),
    ("POST", "/progress"),
    ("POST", "/finish"),
    ("POST", "/ask"),
    ("POST", "/stop"),
    ("POST", "/replicator/events"),
]
BODIES = {
    "/checkpoints": {"phase": "saving", "step": 1},
    "/progress": {"step": 1},
    "/replicator/events": {"event": "hello"},
}


async def _as(daemon: Daemon, uid: int, method: str, target: str) -> Reply:
    body = BODIES.get("/" + target.partition("/v1/jobs/")[2].partition("/")[2], {})
    sent = ["--json", json.dumps(body)] if method == "POST" else []
    return await curl(daemon.path, target, *sent, uid=uid)


@pytest.mark.root
@pytest.mark.parametrize(("method", "tail"), EVERY_ROUTE_OF_A_JOB)
async def test_somebody_elses_job_looks_like_none(
    up: Daemon, other_uid: int, method: str, tail: str
) -> None:
    """Each route answers another user's job exactly as it answers a job that does not exist."""
    theirs = await _as(up, other_uid, method, f"/v1/jobs/resnet{tail}")
    absent = await _as(up, other_uid, method, f"/v1/jobs/absent{tail}")
    assert theirs.status == absent.status == 404
    assert theirs.body == absent.body.replace(b"absent", b"resnet")
    assert f"of uid {other_uid}" in theirs.json()["detail"]
    assert up.desk.jobs["resnet"].said == []
    assert up.desk.jobs["resnet"].asks == 0
    assert up.desk.jobs["resnet"].processes == []


@pytest.mark.root
async def test_a_user_sees_their_own_and_root_all(up: Daemon, other_uid: int) -> None:
    """Lists are cut to the caller; root may use everybody's jobs."""
    own = json.dumps({"name": "mine", "checkpoint_dir": "/home/nobody/ckpt"})
    assert (await curl(up.path, "/v1/jobs", "--json", own, uid=other_uid)).status == 201
    for target in ("/v1/jobs", "/v1/receipts"):
        reply = await curl(up.path, target, uid=other_uid)
        assert [each.get("name") or each["job"] for each in reply.json()] == ["mine"]
        assert len(await up.call("GET", target)) == 2
    status = (await curl(up.path, "/v1/status", uid=other_uid)).json()
    assert [job["name"] for job in status["jobs"]] == ["mine"]
    assert (await _as(up, other_uid, "POST", "/v1/jobs/mine/processes")).status == 201
    ((peer, _),) = up.desk.jobs["mine"].processes
    assert (peer.uid, peer.started > 0) == (other_uid, True)
    assert (await up.call("POST", "/v1/jobs/mine/ask")) == {"ask": 1}


@pytest.mark.root
async def test_a_taken_name_does_not_tell_whose(up: Daemon, other_uid: int) -> None:
    """Registering a name of another user answers 409; root does not take it over either."""
    reply = await curl(up.path, "/v1/jobs", "--json", json.dumps(JOB), uid=other_uid)
    assert reply.status == 409
    assert "0" not in reply.json()["detail"]
    own = json.dumps({"name": "mine", "checkpoint_dir": "/home/nobody/ckpt"})
    assert (await curl(up.path, "/v1/jobs", "--json", own, uid=other_uid)).status == 201
    assert (await up.refused("POST", "/v1/jobs", json.loads(own))).status == 409
    assert up.desk.jobs["mine"].owner == other_uid


@pytest.mark.root
async def test_only_an_operator_interrupts(up: Daemon, other_uid: int) -> None:
    """A user's notice by hand answers 403 with the remedy."""
    reply = await curl(up.path, "/v1/interrupt", "--json", "{}", uid=other_uid)
    assert reply.status == 403
    assert "sudo" in reply.json()["remedy"]
    assert up.desk.interruptions == []


@pytest.mark.root
async def test_a_user_has_so_many_connections(daemon: Daemon, other_uid: int) -> None:
    """The limit of one user is counted by the kernel's uid; others come in."""
    from spotwatchd.control.limits import Limits

    await daemon.start(limits=Limits(connections_per_uid=5))
    code = (
        "import socket\n"
        "held = [socket.socket(socket.AF_UNIX) for _ in range(8)]\n"
        f"for each in held: each.connect({str(daemon.path)!r})\n"
        "for each in held[5:]: print(each.recv(12).decode())\n"
        "held[0].sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "print(held[0].recv(12).decode())\n"
        "input()\n"
    )
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/env",
        "-i",
        "python3",
        "-I",
        "-c",
        code,
        user=other_uid,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = [await asyncio.wait_for(process.stdout.readline(), 40) for _ in range(4)]
    assert lines == [b"HTTP/1.1 429\n"] * 3 + [b"HTTP/1.1 200\n"]
    assert await daemon.call("GET", "/v1/status")
    await process.communicate(b"\n")


@pytest.mark.parametrize("peerpidfd", [True, False])
async def test_a_dead_process_cannot_join(daemon: Daemon, peerpidfd: bool, soon: Until) -> None:
    """A connection whose maker has ended gets 410 and leaves no descriptor behind."""
    server = await daemon.start(peerpidfd=peerpidfd)
    await daemon.call("POST", "/v1/jobs", JOB)
    await soon(lambda: server.connections == 0, "nobody is there")
    before = _open_files()
    stranger = await asyncio.to_thread(Stranger, daemon.path)
    await soon(lambda: server.connections == 1, "it is accepted")
    await asyncio.to_thread(stranger.end)
    reply = await asyncio.to_thread(
        stranger.say, request("POST", "/v1/jobs/resnet/processes", b"{}")
    )
    assert reply.status == 410
    assert str(stranger.pid) in reply.json()["detail"]
    assert reply.json()["remedy"]
    assert daemon.desk.jobs["resnet"].processes == []
    await soon(lambda: _open_files() <= before, "every descriptor is closed")


def _open_files() -> set[tuple[str, str]]:
    """Each descriptor with what it is: a set, for others may close theirs in the meantime."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add((entry.name, str(entry.readlink())))
    return found


@pytest.mark.parametrize("peerpidfd", [True, False])
async def test_the_identity_is_the_connections(
    daemon: Daemon, peerpidfd: bool, soon: Until
) -> None:
    """A connection that was handed over still speaks for the process that made it."""
    server = await daemon.start(peerpidfd=peerpidfd)
    await daemon.call("POST", "/v1/jobs", JOB)
    stranger = await asyncio.to_thread(Stranger, daemon.path)
    await soon(lambda: server.connections == 1, "it is accepted")
    reply = await asyncio.to_thread(
        stranger.say, request("POST", "/v1/jobs/resnet/processes", b"{}")
    )
    assert reply.status == 201
    ((peer, pidfd),) = daemon.desk.jobs["resnet"].processes
    assert peer.pid == stranger.pid != os.getpid()
    assert peer.started == peers.start_time(stranger.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(0) == []
    await asyncio.to_thread(stranger.end)
    assert poll.poll(10_000) != []


@pytest.mark.root
async def test_a_reused_pid_is_another_process(daemon: Daemon, soon: Until) -> None:
    """Without SO_PEERPIDFD the start time tells the new owner of a pid from the old one."""
    assert os.geteuid() == 0, "choosing the next pid needs root"
    server = await daemon.start(peerpidfd=False)
    await daemon.call("POST", "/v1/jobs", JOB)
    stranger = await asyncio.to_thread(Stranger, daemon.path)
    await soon(lambda: server.connections == 1, "it is accepted")
    await asyncio.to_thread(stranger.end)
    impostor = await asyncio.to_thread(_take_pid, stranger.pid)
    try:
        reply = await asyncio.to_thread(
            stranger.say, request("POST", "/v1/jobs/resnet/processes", b"{}")
        )
    finally:
        impostor.kill()
        impostor.wait()
    assert reply.status == 410
    assert daemon.desk.jobs["resnet"].processes == []


def _take_pid(pid: int) -> subprocess.Popen[bytes]:
    """A new process with ``pid``; other programs may be faster, so it takes some tries."""
    for _ in range(50):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        made = subprocess.Popen(["sleep", "60"])
        if made.pid == pid:
            return made
        made.kill()
        made.wait()
    raise AssertionError(f"pid {pid} was not to be had")


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


@pytest.mark.parametrize("peerpidfd", [True, False])
def test_a_caller(peerpidfd: bool) -> None:
    """Both ways give the same process."""
    ours, theirs = _pair()
    with ours, theirs:
        caller = peers.Caller(ours, peerpidfd=peerpidfd)
        peer, pidfd = caller.pidfd()
        os.close(pidfd)
    assert peer == caller.peer()
    assert (peer.pid, peer.uid, peer.started > 0) == (os.getpid(), os.getuid(), True)


def test_a_process_of_another_user_is_not_the_caller() -> None:
    """Without SO_PEERPIDFD the user of the process must fit the credentials."""
    ours, theirs = _pair()
    with ours, theirs:
        caller = peers.Caller(ours, peerpidfd=False)
        caller.uid += 1
        with pytest.raises(Problem) as caught:
            caller.pidfd()
    assert caught.value.status == 410


def test_a_process_outside_the_pid_namespace() -> None:
    """Without SO_PEERPIDFD a peer that has no pid here cannot be identified, and is told why."""
    ours, theirs = _pair()
    with ours, theirs:
        caller = peers.Caller(ours, peerpidfd=False)
        caller.pid = 0
        with pytest.raises(Problem) as caught:
            caller.pidfd()
    assert caught.value.status == 422
    assert "namespace" in caught.value.remedy


def test_start_times() -> None:
    """A process that does not exist has none; one with a nasty name has its own."""
    assert peers.start_time(0) == 0
    assert peers.start_time(2**22 + 1) == 0
    code = (
        "import os, sys\n"
        "open('/proc/self/comm', 'w').write(') R 1 (')\n"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as nasty:
        assert nasty.stdout is not None
        nasty.stdout.readline()
        mine = peers.start_time(os.getpid())
        assert mine <= peers.start_time(nasty.pid) < mine + 10_000_000
        assert nasty.stdin is not None
        nasty.stdin.close()


def test_this_kernel() -> None:
    """SO_PEERPIDFD is found exactly on Linux 6.5 and later."""
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    assert peers.supports_peerpidfd() == ((major, minor) >= (6, 5))
