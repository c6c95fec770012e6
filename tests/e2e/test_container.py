"""A job in a container: another mount and pid namespace, root inside, started by somebody else."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.rehearsal import tree
from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import STUB, World

ROOT = Path(__file__).resolve().parents[2]
ENGINE = Path(__file__).with_name("engine_stub.py")
# The daemon of real root and a container of root's; and everything as an ordinary user, who is
# root inside only. Both are run where the suite runs as root, the second everywhere.
KINDS = [pytest.param(False, id="root", marks=pytest.mark.root), pytest.param(True, id="user")]

# Runs in the container before the training: what can be seen and done from there.
PROBE = """
import json, os, sys
from spotwatchd.wire import http
path, host, out = sys.argv[1:4]
seen = {"uid": os.getuid(), "pid": os.getpid(), "host": os.path.exists(host)}
for method, target, body in json.loads(sys.argv[4]):
    try:
        http.request(path, method, target, body)
        seen[f"{method} {target}"] = 200
    except http.ProblemError as error:
        seen[f"{method} {target}"] = error.status
with open(out, "w") as file:
    json.dump(seen, file)
"""
_SEAL = {"phase": "sealed", "step": 7, "path": "step-000000000007"}
FOREIGN: list[tuple[str, str, Any]] = [
    ("GET", "/v1/status", None),
    ("GET", "/v1/jobs", None),
    ("GET", "/v1/receipts", None),
    ("GET", "/v1/jobs/other", None),
    ("POST", "/v1/jobs/other/stop", None),
    ("POST", "/v1/jobs/other/checkpoints", _SEAL),
    ("POST", "/v1/jobs/other/processes", {}),
    ("POST", "/v1/control", {"name": "job", "do": "remove"}),
    ("POST", "/v1/interrupt", {"seconds": 1}),
]
OWN: list[tuple[str, str, Any]] = [("GET", "/v1/jobs/job", None)]


class Docker:
    """An engine on a machine, and the line that runs the job's program in a container of its."""

    def __init__(self, world: World, machine: Machine, *, user: bool) -> None:
        self.world, self.machine = world, machine
        self.user = user
        self.socket = str(world.root / "engine.sock")
        # Where the container has the job's directories: nowhere near where they are outside.
        self.places = world.root / "container"
        for name in ("run", "ckpt"):
            (self.places / name).mkdir(parents=True)
        self.seen = world.root / "seen.json"
        machine.spawn(
            [sys.executable, str(ENGINE), "serve", self.socket], world.root / "engine.log"
        )
        world.until(lambda: Path(self.socket).exists(), "the engine listens")

    def argv(self, shell: str) -> list[str]:
        """The client's command line; ``shell`` is what runs in the container."""
        machine, inside = self.machine, self.places
        order = {
            "argv": ["sh", "-c", shell],
            "env": {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "SPOTWATCH_SOCKET": str(inside / "run" / "spotwatchd.sock"),
                "SPOTWATCH_JOB": "job",
                "SPOTWATCH_CHECKPOINT_DIR": str(inside / "ckpt"),
            },
            "mounts": [
                [str(machine.root / "run" / "jobs" / "job" / "inside"), str(inside / "run")],
                [str(machine.disk / "job"), str(inside / "ckpt")],
            ],
            "hidden": str(machine.root),
            "user": self.user,
        }
        return [sys.executable, str(ENGINE), "run", self.socket, json.dumps(order)]

    def training(self) -> str:
        """A shell line for the stub job."""
        return " ".join(
            [sys.executable, str(STUB), str(self.world.log), "100000", "0.01", "0", "4"]
        )

    def probe(self) -> str:
        """A shell line for what can be seen from inside."""
        words = [sys.executable, "-c", PROBE, str(self.places / "run" / "spotwatchd.sock")]
        words += [self.machine.socket, str(self.seen), json.dumps(FOREIGN + OWN)]
        return " ".join(f"'{word}'" if "'" not in word else json.dumps(word) for word in words)

    def clients(self) -> list[int]:
        """The engine's clients, not what has them on its command line."""
        program = f"{sys.executable} {ENGINE} run"
        found = self.machine.processes(ENGINE.name)
        return [pid for pid in found if tree.command(pid).startswith(program)]

    def processes(self) -> list[int]:
        """Everything that runs in containers on the machine: in a pid namespace below ours."""
        return [pid for pid in self.machine.all_processes() if _contained(pid)]


def _lease(world: World) -> dict[str, Any]:
    """The job's lease, as it lies in the store."""
    versions = sorted((world.root / "store" / "job").glob("lease.json.*"))
    return dict(json.loads(versions[-1].read_bytes()))


def _contained(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    words = {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}
    return len(words["NSpid"]) > len(_own_depth()) and words["State"][0] != "Z"


def _own_depth() -> list[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("NSpid:")).split()[1:]


def _docker(world: World, *, user: bool) -> Docker:
    who = None if user else pwd.getpwuid(0)
    # Nothing comes from the store here, and from there nothing ever runs as root.
    machine = world.machine_of(who, jobs={"stop_grace": 1.0}, allowed_users=[])
    (machine.disk / "job").mkdir(parents=True, exist_ok=True)
    return Docker(world, machine, user=user)


@pytest.mark.parametrize("user", KINDS)
def test_its_own_job_only_and_nothing_is_left(world: World, *, user: bool) -> None:
    """Asked, sealed and committed from inside; it ends with its lease, stubborn processes too."""
    docker = _docker(world, user=user)
    machine = docker.machine
    machine.submit("other", ["/bin/sleep", "600"])
    # The first process stays when the training ends, and does not listen to SIGTERM.
    stay = f"trap '' TERM; {docker.probe()}; {docker.training()}; sleep 600"
    machine.submit("job", docker.argv(stay))
    world.reach(50)
    seen = json.loads(docker.seen.read_text())
    assert seen.pop("uid") == 0
    assert seen.pop("pid") < 10, "it has a pid namespace of its own"
    assert seen.pop("host") is False, "the daemon's own socket is not there"
    assert seen == {
        **{f"{method} {target}": 403 for method, target, _ in FOREIGN},
        "GET /v1/jobs/job": 200,
    }
    machine.post("/v1/jobs/job/ask")
    world.until(world.committed, "a seal from inside is committed")
    machine.imds.announce("terminate", 40)
    world.until(lambda: not _lease(world)["held"], "the lease is given back")
    # Whoever finds the lease free finds nothing that still runs.
    assert docker.processes() == []
    assert world.committed() == world.step()
    assert machine.job("other") is not None


@pytest.mark.parametrize("user", KINDS)
def test_its_client_dies_and_it_does_not_run_twice(world: World, *, user: bool) -> None:
    """`docker run` is killed, its container lives: it is ended before the next attempt begins."""
    docker = _docker(world, user=user)
    machine = docker.machine
    machine.submit("job", docker.argv(docker.training()))
    world.reach(50)
    machine.post("/v1/jobs/job/ask")
    saved = world.until(world.committed, "a checkpoint is committed")
    (client,) = docker.clients()
    machine.signal(client, signal.SIGKILL)

    def resumed() -> list[dict[str, Any]]:
        return [line for line in world.lines() if "resumed" in line]

    world.until(lambda: len(resumed()) == 2, "it runs again")
    second = resumed()[1]
    # From where the first one saved, by a path that only means something inside.
    assert (second["resumed"], second["attempt"]) == (saved, 2)
    index = world.lines().index(second)
    world.reach(saved + 30)
    later = [line["step"] for line in world.lines()[index:] if "step" in line]
    # Two at once would be at different steps.
    assert later == list(range(saved + 1, saved + 1 + len(later)))
    assert len(later) >= 20
