"""The main job with real daemons: noticed, saved, committed, resumed elsewhere."""

from __future__ import annotations

import json
import shutil
from typing import Any

from tests.e2e.conftest import World


def _submit(world: World, machine: Any, **options: Any) -> None:
    machine.submit("job", world.argv(**options))


def test_a_noticed_job_loses_no_step(world: World) -> None:
    """Notice, save, commit; the machine is destroyed; a fresh one resumes by itself and ends it."""
    first = world.machine()
    _submit(world, first, steps=400)
    world.reach(100)
    first.imds.announce("terminate", 15)
    world.until(lambda: first.job("job")["state"] == "interrupted", "the interruption is settled")
    assert world.head()["state"] == "interrupted"
    saved = world.committed()
    first.destroy()
    second = world.machine()
    world.until(lambda: (second.job("job") or {}).get("state") == "finished", "it finishes")
    assert world.computed_twice() == 0
    resumed = [line for line in world.lines() if "resumed" in line]
    assert [(line["resumed"], line["attempt"], line["cause"]) for line in resumed] == [
        (0, 1, "first"),
        (saved, 2, "interruption"),
    ]
    assert world.head()["state"] == "finished"
    assert world.committed() == 400


def test_the_receipt_tells_the_whole_story(world: World) -> None:
    """On the new machine: every mark from the notice to the first resumed step, in order."""
    first = world.machine()
    _submit(world, first, steps=300)
    world.reach(50)
    first.imds.announce("terminate", 15)
    world.until(lambda: first.job("job")["state"] == "interrupted", "the interruption is settled")
    first.destroy()
    second = world.machine()
    world.until(lambda: (second.job("job") or {}).get("state") == "finished", "it finishes")
    (receipt,) = second.get("/v1/receipts")
    marks = [mark["mark"] for mark in receipt["marks"]]
    assert marks == ["notice visible", "asked", "sealed", "committed", "restored", "resumed"]
    seconds = [mark["seconds"] for mark in receipt["marks"]]
    assert seconds == sorted(seconds)
    assert receipt["notice"]["action"] == "terminate"
    assert receipt["outcome"] == "committed"
    assert receipt["machine"] == "m1"
    assert receipt["resumed_on"] == "m2"
    assert receipt["lost_steps"] == 0
    assert 0 < receipt["spare_seconds"] < 15


def test_death_without_a_notice_is_taken_over(world: World) -> None:
    """Everything ends at once: a fresh machine waits for the lease, then resumes what was saved."""
    first = world.machine(checkpoint={"min_interval": 1.0})
    _submit(world, first, steps=1200)
    world.until(world.committed, "a background checkpoint")
    first.destroy()
    at_death, saved = world.step(), world.committed()
    second = world.machine()
    world.until(lambda: (second.job("job") or {}).get("state") == "finished", "it finishes")
    assert 0 < saved <= at_death
    assert world.computed_twice() <= at_death - saved
    (receipt,) = second.get("/v1/receipts")
    assert receipt["outcome"] == "unannounced"


def test_a_reboot_resumes_from_the_same_disk(world: World) -> None:
    """The machine loses power and comes back: the job goes on where it was saved."""
    machine = world.machine(checkpoint={"min_interval": 1.0})
    _submit(world, machine, steps=1000)
    world.until(world.committed, "a background checkpoint")
    machine.power_off()
    shutil.rmtree(machine.root / "run")  # what a reboot takes
    saved = world.committed()
    again = type(machine)("m1", world.root / "m9", world.store, settings=machine._settings)
    (machine.root).rename(again.root)
    world.machines.append(again)
    again.disk.rename(again.root / "kept")
    again.boot()
    world.until(lambda: (again.job("job") or {}).get("state") == "finished", "it finishes")
    assert [line["resumed"] for line in world.lines() if "resumed" in line][-1] >= saved > 0


def test_a_withdrawn_notice_lets_the_machine_go_on(world: World) -> None:
    """The notice vanishes after the job was saved: the same machine takes the job again."""
    machine = world.machine()
    _submit(world, machine)
    world.reach(50)
    machine.imds.announce("terminate", 60)
    world.until(lambda: machine.job("job")["state"] == "interrupted", "the interruption is settled")
    saved = world.committed()
    machine.imds.withdraw()
    world.until(lambda: world.step() > saved + 10, "training goes on")
    assert machine.job("job")["attempt"] == 2
    assert world.computed_twice() == 0


def test_a_finished_job_is_not_run_again(world: World) -> None:
    """Exit 0 after finish(): done, here and on every machine that looks into the store."""
    machine = world.machine()
    _submit(world, machine, steps=30)
    world.until(lambda: machine.job("job")["state"] == "finished", "it finishes")
    assert machine.job("job")["exit_status"] == 0
    world.until(
        lambda: [pid for pid in machine.all_processes() if pid != machine.daemon_pid] == [],
        "nothing of the job is left running",
    )
    attempts = len([line for line in world.lines() if "resumed" in line])
    second = world.machine()
    world.until(lambda: second.get("/v1/status")["store"]["last_error"] is None, "it looks")
    second.submit("job", world.argv(steps=30))
    world.until(lambda: second.job("job")["state"] == "finished", "the store says so")
    assert len([line for line in world.lines() if "resumed" in line]) == attempts == 1


def test_a_crash_loop_stops(world: World) -> None:
    """Three crashes without a new step: given up, said so, and the machine stays for a look."""
    machine = world.machine()
    machine.submit("job", ["/bin/sh", "-c", f"echo '{{\"resumed\": 0}}' >> {world.log}; exit 3"])
    world.until(lambda: machine.job("job")["state"] == "crashed", "it is given up")
    assert len(world.lines()) == 3
    assert machine.job("job")["exit_status"] == 3
    assert world.head()["state"] == "crashed"


def test_a_job_by_hand_is_interrupted_by_hand(world: World) -> None:
    """`POST /v1/interrupt` takes the way of a notice; at its deadline the rehearsal is over."""
    machine = world.machine()
    _submit(world, machine)
    world.reach(20)
    machine.post("/v1/interrupt", {"seconds": 5, "action": "stop"})
    world.until(lambda: machine.job("job")["state"] == "interrupted", "it is settled")
    assert world.committed() == world.step()
    world.until(lambda: machine.job("job")["state"] == "running", "the machine goes on")
    assert world.computed_twice() == 0


def test_the_spec_in_the_store_is_readable(world: World) -> None:
    """A person finds what a fresh machine would run."""
    machine = world.machine()
    _submit(world, machine)
    world.reach(5)
    (path,) = (world.root / "store" / "job").glob("spec.json.*")
    spec = json.loads(path.read_bytes())
    assert spec["argv"] == world.argv()
    assert spec["version"] == 1
