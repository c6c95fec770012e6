"""Several jobs on one machine's GPUs: real daemons, real processes, a simulated number of GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from spotwatchd.rehearsal import fleet_job
from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World

ROOT = Path(__file__).resolve().parents[2]


class Floor:
    """Jobs that tell what they were given."""

    def __init__(self, world: World) -> None:
        self.world = world

    def argv(self, steps: int = 100_000) -> list[str]:
        """The command line of a job."""
        return [sys.executable, fleet_job.__file__, str(self.world.log), str(steps), "0.05"]

    def submit(self, machine: Machine, name: str, gpus: int | None, **more: Any) -> Any:
        """Register a job."""
        steps = more.pop("steps", 100_000)
        return machine.submit(name, self.argv(steps), gpus=gpus, **more)

    def starts(self, name: str) -> list[dict[str, Any]]:
        """The first line of each attempt."""
        return [x for x in self.world.lines() if x["job"] == name and x["word"] == "starts"]

    def runs(self, machine: Machine, name: str, attempts: int = 1) -> dict[str, Any]:
        """Wait until it runs; its first line."""
        self.world.until(lambda: len(self.starts(name)) >= attempts, f"{name} runs")
        self.state(machine, name, "running")
        return self.starts(name)[-1]

    def state(self, machine: Machine, name: str, state: str) -> dict[str, Any]:
        """Wait for a state; the document."""
        self.world.until(
            lambda: (machine.job(name) or {}).get("state") == state, f"{name} is {state}"
        )
        return dict(machine.job(name))


def test_a_killed_daemon_gives_no_gpu_away(world: World) -> None:
    """Two jobs hold two GPUs, kill -9, it comes back: the third waits until one of them ends."""
    floor, machine = Floor(world), world.machine(resources={"gpus": 2})
    floor.submit(machine, "a", 1)
    floor.submit(machine, "b", 1)
    assert floor.runs(machine, "a")["gpus"] == "0"
    assert floor.runs(machine, "b")["gpus"] == "1"
    assert machine.job("b")["gpus"] == [1]
    floor.submit(machine, "c", 1)
    waiting = floor.state(machine, "c", "queued")
    assert waiting["reason"] == "needs 1 GPU, 0 of 2 free: a, b hold the others"
    assert waiting["remedy"]
    machine.kill_daemon()
    machine.start_daemon()
    for name, gpu in (("a", 0), ("b", 1)):
        assert floor.state(machine, name, "running")["gpus"] == [gpu]
    again = floor.state(machine, "c", "queued")
    assert again["reason"] == waiting["reason"]
    machine.post("/v1/control", {"name": "b", "do": "stop"})
    assert floor.runs(machine, "c")["gpus"] == "1"
    assert floor.starts("c")[0]["t"] > max(x["t"] for x in world.lines() if x["job"] == "b")
    assert [len(floor.starts(name)) for name in "abc"] == [1, 1, 1]


def test_a_job_without_room_is_run_by_a_machine_that_has_it(world: World) -> None:
    """It waits without the lease, and is in the store although it never ran."""
    floor, small = Floor(world), world.machine(resources={"gpus": 1})
    floor.submit(small, "big", 2, steps=20)
    waiting = floor.state(small, "big", "queued")
    assert waiting["reason"] == "needs 2 GPUs, this machine has only 1"
    world.until(
        lambda: list((world.root / "store" / "big").glob("spec.json*")), "the store knows it"
    )
    large = world.machine(resources={"gpus": 2})
    for machine in (large, small):
        floor.state(machine, "big", "finished")
    (start,) = floor.starts("big")
    assert (start["machine"], start["gpus"]) == (large.name, "0,1")


def test_a_stop_of_a_job_that_never_ran_holds_everywhere(world: World) -> None:
    """No machine that finds it in the store starts it; a start undoes that."""
    floor, small = Floor(world), world.machine(resources={"gpus": 0})
    floor.submit(small, "big", 1, steps=3)
    world.until(lambda: world.head("big"), "the store knows it")
    small.post("/v1/control", {"name": "big", "do": "stop"})
    floor.state(small, "big", "stopped")
    large = world.machine(resources={"gpus": 1})
    floor.submit(large, "other", 1, steps=3)
    floor.state(large, "other", "finished")
    assert large.job("big") is None
    started = large.post("/v1/control", {"name": "big", "do": "start", "store": world.store})
    assert started["state"] == "queued"
    floor.state(large, "big", "finished")
    assert floor.starts("big")[0]["attempt"] == 1


def test_priority_decides_who_is_next(world: World) -> None:
    """`spotwatch run --gpus --priority`, and the variable of the shell does not count with it."""
    floor, machine = Floor(world), world.machine(resources={"gpus": 1})
    floor.submit(machine, "a", 1)
    floor.runs(machine, "a")
    for name, priority in (("low", "0"), ("high", "5")):
        command = [sys.executable, "-m", "spotwatchd.cli.main", "run", "--name", name, "--detach"]
        options = ["--checkpoint-dir", str(machine.disk / name), "--gpus", "1"]
        subprocess.run(
            [*command, *options, "--priority", priority, "--", *floor.argv(5)],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SPOTWATCH_SOCKET": machine.socket,
                "CUDA_VISIBLE_DEVICES": "7",
            },
            check=True,
            capture_output=True,
        )
    assert floor.state(machine, "high", "queued")["priority"] == 5
    floor.state(machine, "low", "queued")
    machine.post("/v1/control", {"name": "a", "do": "stop"})
    floor.state(machine, "low", "finished")
    assert [x["job"] for x in world.lines() if x["word"] == "starts"] == ["a", "high", "low"]
    assert floor.starts("high")[0]["gpus"] == "0"
    spec = max((world.root / "store" / "high").glob("spec.json*"))
    stored = json.loads(spec.read_text())
    assert (stored["gpus"], stored["priority"]) == (1, 5)
    assert "CUDA_VISIBLE_DEVICES" not in stored["env"]


def test_jobs_that_do_not_ask_see_what_they_saw(world: World) -> None:
    """They share, unqueued, with the variable that they were given; with 0 a job sees none."""
    floor, machine = Floor(world), world.machine(resources={"gpus": 2})
    floor.submit(machine, "all", None)
    floor.submit(machine, "none", 0)
    assert floor.runs(machine, "all")["gpus"] is None
    assert floor.runs(machine, "none")["gpus"] == ""
    assert machine.job("all")["gpus"] is None
    floor.submit(machine, "mine", 1)
    reason = floor.state(machine, "mine", "queued")["reason"]
    assert reason == "needs 1 GPU for itself, and all may use any: started without --gpus"
    machine.post("/v1/control", {"name": "all", "do": "stop"})
    assert floor.runs(machine, "mine")["gpus"] == "0"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "1"}
    floor.submit(machine, "hand", None, env=env)
    assert floor.runs(machine, "hand")["gpus"] == "1"


def test_a_gpu_takes_its_job_with_it(world: World, short_dir: Path) -> None:
    """A real program named nvidia-smi on the daemon's PATH: one GPU falls off the bus later.

    The crashed job is there to be looked at; what it had goes to others, except what is gone.
    """
    uuids = ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1f22a253-c329-dfb7-0db4-e005efb6a4c7"]
    answer = short_dir / "answer"
    answer.write_text("".join(f"{index}, {uuid}\n" for index, uuid in enumerate(uuids)))
    program = short_dir / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat {answer}\n")
    program.chmod(0o755)
    path = {"PATH": f"{short_dir}:{os.environ['PATH']}"}
    machine = world.machine_with(path, jobs={"max_crashes": 1})
    floor = Floor(world)
    floor.submit(machine, "a", 2, steps=2)
    floor.state(machine, "a", "finished")
    assert floor.starts("a")[0]["gpus"] == "0,1"
    answer.write_text(f"0, {uuids[0]}\nUnable to determine the device handle for GPU0000:3B\n")
    machine.submit("dies", ["/bin/sh", "-c", "echo its last words; exit 3"], gpus=2)
    world.until(lambda: "GPUs are gone" in machine.log(), "it is told")
    assert "cannot see all GPUs" in machine.log()
    crashed = floor.state(machine, "dies", "crashed")
    assert (crashed["exit_status"], crashed["gpus"]) == (3, [])
    assert "its last words" in Path(crashed["output"]).read_text()
    floor.submit(machine, "b", 2, steps=2)
    reason = floor.state(machine, "b", "queued")["reason"]
    assert reason.startswith("needs 2 GPUs, this machine has only 1 (")
    floor.submit(machine, "c", 1, steps=2)
    floor.state(machine, "c", "finished")
    assert floor.starts("c")[0]["gpus"] == "0"
