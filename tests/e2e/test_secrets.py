"""A job's secrets are in the memory of its program, and nowhere else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World
from tests.e2e.project import CANARY, ROOT, Project


@pytest.fixture
def project(world: World) -> Project:
    """One that also has a secret in its directory."""
    made = Project(world)
    made.root.joinpath(".env").write_text(f"TOKEN={CANARY}\n")
    return made


def _job(machine: Machine) -> dict[str, Any]:
    return machine.job("job") or {}


def _starts(world: World) -> int:
    return len([line for line in world.lines() if "resumed" in line])


def _runs_on(world: World, machine: Machine, starts: int) -> None:
    """Wait for the attempt, and for steps of its own."""
    world.until(lambda: _starts(world) == starts, f"attempt {starts} begins")
    world.until(lambda: _job(machine)["state"] == "running", "it runs")
    world.reach(world.step() + 5)


class Ears:
    """Everything that was said to people or to other processes, for one look at the end."""

    def __init__(self) -> None:
        self.heard: dict[str, str] = {}

    def ask(self, machine: Machine, *words: str) -> None:
        """A command's whole output."""
        done = subprocess.run(
            [sys.executable, "-m", "spotwatchd.cli.main", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "SPOTWATCH_SOCKET": machine.socket},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        self.heard[f"{words} {len(self.heard)}"] = done.stdout + done.stderr

    def listen(self, machine: Machine) -> None:
        """What the daemon tells its own user, and the command lines of the whole machine."""
        for target in ("/v1/status", "/v1/receipts", "/v1/jobs/job"):
            self.heard[f"{target} {len(self.heard)}"] = json.dumps(machine.get(target))
        self.ask(machine, "status", "--json")
        self.ask(machine, "status", "job")
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            self.heard[f"{path} {len(self.heard)}"] = _read(path).decode("utf-8", "replace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def _files_with(root: Path, wanted: bytes) -> list[Path]:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if wanted in path.read_bytes()]


def test_a_secret_is_found_nowhere(world: World, project: Project) -> None:
    """Blocked by a bad line, crashed, interrupted, gone on elsewhere: in no file and no word."""
    ears, first = Ears(), world.machine()
    project.secret.write_text(f"OTHER=1\n{CANARY}\n")  # NAME= was forgotten
    said = project.run(first, "--code", "bundle", *project.needs(), "--prepare", "true")
    assert ".env is not packed" in said
    ears.heard["run"] = said
    world.until(lambda: _job(first).get("state") == "blocked", "a line is wrong")
    assert "line 2 of" in _job(first)["reason"]
    ears.listen(first)
    project.secret.write_text(f"export TOKEN='{CANARY}'\n")
    _runs_on(world, first, 1)
    ears.listen(first)
    (program,) = first.processes("train.py")[-1:]
    assert CANARY.encode() in Path(f"/proc/{program}/environ").read_bytes()
    os.kill(program, signal.SIGKILL)
    _runs_on(world, first, 2)
    first.imds.announce("terminate", 20)
    world.until(lambda: _job(first)["state"] == "interrupted", "it is settled")
    ears.listen(first)
    second = world.machine()
    _runs_on(world, second, 3)
    ears.listen(second)
    ears.ask(second, "logs", "job")
    ears.ask(second, "logs", "job", "--store", world.store)
    ears.ask(second, "receipts", "--json")
    assert [what for what, words in ears.heard.items() if CANARY in words] == []
    holders = [pid for pid in second.all_processes() if _holds(pid)]
    assert holders
    assert holders == second.processes("train.py")[-len(holders) :]
    for machine in (first, second):
        machine.power_off()
    project.root.joinpath(".env").unlink()
    project.secret.unlink()
    assert _files_with(world.root, CANARY.encode()) == []


def _holds(pid: int) -> bool:
    return CANARY.encode() in _read(Path(f"/proc/{pid}/environ"))


LOOK = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[2])
from spotwatchd.wire.http import request
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(request(sys.argv[1], "GET", "/v1/status")["jobs"])
print(request(sys.argv[1], "GET", "/v1/receipts"), flush=True)
for name in ("cmdline", "environ"):
    for path in pathlib.Path("/proc").glob(f"[0-9]*/{name}"):
        try:
            sys.stdout.buffer.write(path.read_bytes())
        except OSError:
            continue
"""


@pytest.mark.root
def test_another_user_sees_neither_the_job_nor_its_secret(world: World, project: Project) -> None:
    """Their status is empty, and /proc shows them no environment but their own."""
    world.root.chmod(0o711)
    machine = world.machine(socket_mode="0666")
    project.run(machine, "--code", "bundle", *project.needs())
    _runs_on(world, machine, 1)
    look = [sys.executable, "-c", LOOK, machine.socket, str(ROOT)]
    done = subprocess.run(look, capture_output=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"[]\n[]\n")
    assert b"train.py" in done.stdout, "command lines are there to be read"
    assert CANARY.encode() not in done.stdout
