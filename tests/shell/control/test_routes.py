"""The routes answer as the contract says."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from spotwatchd.control.bodies import (
    FinishBody,
    InterruptBody,
    JobBody,
    ProcessBody,
    ProgressBody,
    SealBody,
)
from spotwatchd.control.peers import start_time
from spotwatchd.control.problems import Problem
from spotwatchd.control.routes import Claims
from spotwatchd.errors import (
    ConfigError,
    Conflict,
    DaemonUnreachable,
    Damaged,
    JobError,
    LeaseLost,
    SpotwatchError,
    StoreDenied,
    StoreUnavailable,
)
from spotwatchd.wire import http
from spotwatchd.wire.http import ProblemError
from tests.shell.control.conftest import JOB, Daemon, Until
from tests.shell.control.wire import curl, raw, request


async def test_what_a_user_reads(up: Daemon) -> None:
    """Status, list, single job and receipts are the desk's own documents."""
    job = {"name": "resnet", "uid": os.getuid(), "asks": 0}
    assert await up.call("GET", "/v1/status") == {"watch": {"state": "ok"}, "jobs": [job]}
    assert await up.call("GET", "/v1/jobs") == [job]
    assert await up.call("GET", "/v1/jobs/resnet") == job
    assert await up.call("GET", "/v1/receipts") == [{"job": "resnet"}]


async def test_a_job_is_new_once(daemon: Daemon) -> None:
    """Registering answers 201, registering the same again 200."""
    await daemon.start()
    first = await curl(daemon.path, "/v1/jobs", "--json", json.dumps(JOB))
    second = await curl(daemon.path, "/v1/jobs", "--json", json.dumps(JOB))
    assert (first.status, second.status) == (201, 200)
    assert first.json() == second.json()


async def test_a_whole_job_arrives(daemon: Daemon) -> None:
    """Every field of a job reaches the desk as it was sent; whole seconds become a float."""
    await daemon.start()
    given: dict[str, Any] = {
        "name": "a.b-C_9",
        "checkpoint_dir": "/data/of mine/é",
        "argv": ["python", "train.py", ""],
        "cwd": "/home/me",
        "env": {"PATH": "/bin", "EMPTY": "", "BASH_FUNC_x%%": "() { :; }"},
        "checkpoint_glob": "out/ckpt-*.pt",
        "store": "s3://acme-ckpt/team/a",
        "signal": "SIGUSR1",
        "interval": 60,
        "run_id": "2026-11-21",
    }
    await daemon.call("POST", "/v1/jobs", given)
    job = daemon.desk.jobs["a.b-C_9"]
    assert job.body == JobBody(**given)
    assert isinstance(job.body.interval, float)
    assert job.submitter.pid == os.getpid()
    assert job.submitter.started == start_time(os.getpid())


@pytest.mark.parametrize("store", ["file:///mnt/efs", "file:///mnt/efs/a_b.c"])
async def test_a_directory_is_a_store(daemon: Daemon, store: str) -> None:
    """file:// URLs are accepted."""
    await daemon.start()
    await daemon.call("POST", "/v1/jobs", {**JOB, "store": store})
    assert daemon.desk.jobs["resnet"].body.store == store


@pytest.mark.parametrize("peerpidfd", [True, False])
async def test_a_process_joins_by_pidfd(daemon: Daemon, peerpidfd: bool) -> None:
    """The desk gets the caller's own pidfd, with SO_PEERPIDFD and without."""
    await daemon.start(peerpidfd=peerpidfd)
    await daemon.call("POST", "/v1/jobs", JOB)
    answer = await daemon.call("POST", "/v1/jobs/resnet/processes", {"rank": 1, "world_size": 2})
    assert answer == {"board": "/run/spotwatchd/boards/resnet", "rank": 1}
    ((peer, pidfd),) = daemon.desk.jobs["resnet"].processes
    with open(f"/proc/self/fdinfo/{pidfd}") as info:  # noqa: ASYNC230, PTH123 - procfs
        assert f"Pid:\t{os.getpid()}\n" in info.read()
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.started == start_time(os.getpid()) > 0
    assert not os.get_inheritable(pidfd)


SEALED = (
    '{"phase": "sealed", "step": 40, "path": "step-000000000040", "mark": "12-34", '
    '"ask": 3, "seconds": 2, "rank": 1, "world_size": 8}'
)


@pytest.mark.parametrize(
    ("target", "body", "status", "arrives"),
    [
        ("processes", "", 201, None),
        (
            "checkpoints",
            SEALED,
            202,
            SealBody("sealed", 40, "step-000000000040", "12-34", 3, 2.0, 1, 8),
        ),
        ("checkpoints", '{"phase": "saving", "step": 0}', 202, SealBody("saving", 0)),
        ("progress", '{"step": 41}', 200, ProgressBody(41)),
        ("finish", "{}", 200, FinishBody()),
        ("finish", "", 200, FinishBody()),
        ("ask", "", 202, None),
        ("ask", "{}", 202, None),
        ("stop", "", 202, None),
        (
            "replicator/events",
            '{"event": "hello", "generation": 3, "state": {"a": [1]}}',
            200,
            {"event": "hello", "generation": 3, "state": {"a": [1]}},
        ),
    ],
)
async def test_what_a_job_says(
    up: Daemon, target: str, body: str, status: int, arrives: object
) -> None:
    """Each POST of a job answers with its status and reaches the desk whole."""
    reply = await raw(up.path, request("POST", f"/v1/jobs/resnet/{target}", body.encode()))
    assert reply.status == status, reply
    assert isinstance(reply.json(), dict)
    if arrives is not None:
        assert up.desk.jobs["resnet"].said == [arrives]


async def test_a_notice_by_hand(up: Daemon) -> None:
    """The daemon's own user may rehearse an interruption."""
    await up.call("POST", "/v1/interrupt", {"seconds": 30, "action": "stop"})
    await up.call("POST", "/v1/interrupt", {})
    assert up.desk.interruptions == [InterruptBody(30.0, "stop"), InterruptBody(120.0)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (JobError("no such spec", where="resnet", remedy="choose --new"), 422),
        (ConfigError("bad store", where="store", remedy="mend it"), 422),
        (Conflict("lost", where="head.json", remedy="again"), 409),
        (LeaseLost("another machine has it", where="lease.json", remedy="stop"), 409),
        (StoreUnavailable("no answer", where="s3://a", remedy="wait"), 503),
        (StoreDenied("403", where="s3://a", remedy="attach the policy"), 503),
        (Damaged("bad head", where="head.json", remedy="restore"), 503),
        (DaemonUnreachable("no journal", where="journal", remedy="wait"), 503),
        (SpotwatchError("something", where="here", remedy="that"), 503),
    ],
)
async def test_the_desks_refusals(up: Daemon, error: SpotwatchError, status: int) -> None:
    """What, where and remedy of an error arrive; its class decides the status."""
    up.desk.failures["ask"].append(error)
    problem = await up.refused("POST", "/v1/jobs/resnet/ask")
    assert problem.status == status
    assert (problem.what, problem.where, problem.remedy) == (error.what, error.where, error.remedy)
    assert await up.call("POST", "/v1/jobs/resnet/ask") == {"ask": 1}


@pytest.mark.parametrize("method", ["ask", "owner"])
@pytest.mark.parametrize("kind", [ZeroDivisionError, TimeoutError, KeyError, ConnectionError])
async def test_a_defect_costs_one_request(up: Daemon, method: str, kind: type[Exception]) -> None:
    """An unexpected exception is a numbered 500, told to on_bug; the next request works."""
    error = kind("inner words")
    up.desk.failures[method].append(error)
    problem = await up.refused("POST", "/v1/jobs/resnet/ask")
    assert problem.status == 500
    assert up.bugs == [error]
    up.bugs.clear()
    (note,) = error.__notes__
    number = note.split()[3]
    assert number in problem.what
    assert number in problem.remedy
    assert "inner words" not in str(problem.problem)
    assert await up.call("POST", "/v1/jobs/resnet/ask") == {"ask": 1}


async def test_a_document_that_is_no_json_is_a_defect(up: Daemon) -> None:
    """NaN from the desk is not sent."""
    up.desk.jobs["resnet"].asks = float("nan")  # type: ignore[assignment]
    assert (await up.refused("GET", "/v1/jobs/resnet")).status == 500
    assert isinstance(up.bugs.pop(), ValueError)


async def test_one_connection_many_requests(up: Daemon) -> None:
    """Keep-alive and pipelining work; a refusal in between does not end the connection."""
    ask = b"POST /v1/jobs/resnet/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    bad = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    reply = await raw(up.path, ask + bad + ask + request("GET", "/v1/jobs/resnet"))
    everything = reply.body
    assert everything.count(b"HTTP/1.1 ") == 3
    assert b'"asks": 2' in everything


def test_a_name_cannot_be_registered_by_two_users_at_once() -> None:
    """While one user's registration is in progress, the name is taken for others only."""
    claims = Claims()
    with claims.claim("a", 1), claims.claim("a", 1), claims.claim("b", 2):
        other = claims.claim("a", 2)
        with pytest.raises(Problem, match="in use"):
            other.__enter__()
    with claims.claim("a", 2):
        pass


async def test_a_reader_that_leaves_does_not_stop_the_desk(up: Daemon, soon: Until) -> None:
    """A client that gives up while the desk works leaves the work to be done."""
    up.desk.gate.clear()
    with pytest.raises(DaemonUnreachable):
        await asyncio.to_thread(_impatient, up)
    up.desk.gate.set()
    await soon(lambda: "late" in up.desk.jobs, "the job is registered")


def _impatient(up: Daemon) -> None:
    http.request(str(up.path), "POST", "/v1/jobs", {**JOB, "name": "late"}, timeout=0.2)


async def test_no_problem_without_words() -> None:
    """The client's error carries the problem's words."""
    problem = ProblemError(404, {"detail": "no job", "where": "GET x", "remedy": "look"})
    assert str(problem) == "no job\n  where   GET x\n  fix     look"
    assert ProcessBody().contradiction() is None
