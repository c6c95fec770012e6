"""What people say about a job holds on every machine: stop, start, rm, and another command."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from spotwatchd.rehearsal.machine import Machine
from spotwatchd.store.open import open_backend
from spotwatchd.wire.http import ProblemError, request
from tests.e2e.conftest import World


def _control(machine: Machine, do: str, name: str = "job", **more: Any) -> Any:
    return machine.post("/v1/control", {"name": name, "do": do, **more})


def _state(machine: Machine, name: str = "job") -> str | None:
    return (machine.job(name) or {}).get("state")


def _runs(world: World) -> list[dict[str, Any]]:
    return [line for line in world.lines() if "resumed" in line]


def test_stopped_while_a_machine_is_off_started_on_a_third(world: World) -> None:
    """B was off while the job was stopped on A: it boots and leaves it alone; C may start it."""
    b = world.machine(checkpoint={"min_interval": 0.5})
    b.submit("job", world.argv())
    world.until(world.committed, "a checkpoint")
    b.power_off()
    a = world.machine()
    world.until(lambda: _state(a) == "running", "A runs it")
    before = world.committed()
    world.reach(before + 20)
    twice = world.computed_twice()
    assert _control(a, "stop")["state"] == "stopping"
    world.until(lambda: _state(a) == "stopped", "A has stopped it")
    assert world.head()["state"] == "stopped"
    assert world.head()["wanted"]["state"] == "stopped"
    assert world.head()["wanted"]["by"]
    stopped_at = world.step()
    assert world.committed() == stopped_at
    again = type(b)("m1", world.root / "m9", world.store, settings=b._settings)
    b.root.rename(again.root)
    world.machines.append(again)
    (again.root / "run").rename(again.root / "gone")
    again.disk.rename(again.root / "kept")
    again.boot()
    world.until(lambda: _state(again) == "stopped", "B hears of it")
    c = world.machine()
    world.until(lambda: c.get("/v1/status")["store"]["last_error"] is None, "C looks")
    assert c.job("job") is None
    assert len(_runs(world)) == 2
    assert _control(c, "start")["state"] == "queued"
    world.until(lambda: _state(c) == "running", "C runs it")
    world.until(lambda: world.step() > stopped_at, "it goes on")
    assert _runs(world)[-1]["resumed"] == stopped_at
    assert _state(again) == "stopped"
    assert world.computed_twice() == twice


def test_a_machine_that_owns_nothing_stops_it(world: World) -> None:
    """Said on B, which does not know the job: A asks it to save, ends it and says so in head."""
    a = world.machine()
    a.submit("job", world.argv())
    world.reach(20)
    b = world.machine()
    assert _control(b, "stop")["state"] == "stopped"
    world.until(lambda: _state(a) == "stopped", "A obeys")
    assert world.committed() == world.step() > 0
    assert a.processes("stub_job.py") == []
    assert _control(a, "start")["state"] == "queued"
    world.until(lambda: _state(a) == "running", "the same machine runs it again")
    world.reach(world.committed() + 10)
    assert world.computed_twice() == 0


def test_stop_without_saving(world: World) -> None:
    """--no-save: it ends at once, and what was not saved before is not saved."""
    machine = world.machine()
    machine.submit("job", world.argv(save=0.2))
    world.reach(20)
    _control(machine, "stop", save=False)
    world.until(lambda: _state(machine) == "stopped", "it is over")
    assert world.committed() == 0
    assert world.head()["state"] == "stopped"
    assert world.head()["wanted"]["save"] is False


def test_rm_removes_its_objects_and_nothing_else(world: World) -> None:
    """A running job and others whose names begin like it: its own folder goes, all else stays."""
    machine = world.machine(checkpoint={"min_interval": 0.5})
    others = ("jo", "job2", "job.a", "job-1")
    for name in others:
        machine.submit(name, [sys.executable, "-c", "print(1)"])
    machine.submit("job", world.argv())
    world.until(world.committed, "a checkpoint")
    world.until(lambda: all(_state(machine, n) == "finished" for n in others), "the others end")
    store = world.root / "store"
    before = {p for p in store.rglob("*") if p.is_file() and p.relative_to(store).parts[0] != "job"}
    assert len([p for p in before if p.name.startswith("head.json")]) >= len(others)
    world.until(lambda: _control(machine, "remove")["state"] == "removed", "it is removed")
    assert not (store / "job").exists()
    after = {p for p in store.rglob("*") if p.is_file()}
    assert after == before
    assert machine.job("job") is None
    assert machine.processes("stub_job.py") == []
    assert not (machine.root / "state" / "jobs" / "job").exists()
    with pytest.raises(ProblemError, match="no job"):
        _control(machine, "remove")
    machine.submit("job", world.argv(steps=10_000))
    world.until(lambda: _state(machine) == "running", "the name is free again")
    assert machine.job("job")["attempt"] <= 1


def test_another_learning_rate_is_refused_with_two_ways_out(world: World) -> None:
    """Here and on a machine that only has the store: what differs is said; both ways work."""
    script = "import sys, time, os; open(sys.argv[-1], 'a').write(sys.argv[2] + '\\n'); "
    script += "time.sleep(300)"
    said = str(world.root / "said")

    def argv(rate: str) -> list[str]:
        return [sys.executable, "-c", script, "--lr", rate, said]

    first = world.machine()
    first.submit("job", argv("0.1"))
    world.until(lambda: _state(first) == "running", "it runs")
    second = world.machine()
    for machine in (first, second):
        with pytest.raises(ProblemError) as refused:
            machine.submit("job", argv("0.2"))
        assert "--lr 0.1 -> --lr 0.2" in refused.value.what
        assert "--continue" in refused.value.remedy
        assert "--new" in refused.value.remedy
    run_id = world.head()["run_id"]
    _control(first, "stop", save=False)
    world.until(lambda: _state(first) == "stopped", "it is stopped")
    second.submit("job", argv("0.2"), change="continue")
    world.until(lambda: _state(second) == "running", "the changed job runs")
    assert world.head()["run_id"] == run_id
    with pytest.raises(ProblemError, match=r"0\.2 -> --lr 0\.1"):
        first.submit("job", argv("0.1"))
    _control(second, "stop", save=False)
    world.until(lambda: _state(second) == "stopped", "it is stopped")
    first.submit("job", argv("0.3"), change="new")
    world.until(lambda: _state(first) == "running", "another run")
    assert world.head()["run_id"] != run_id
    _control(first, "stop", save=False)
    world.until(lambda: _state(first) == "stopped", "it is stopped")
    # B never heard of 0.3: it runs what the store says, not what it was given once.
    _control(second, "start")
    world.until(lambda: _state(second) == "running", "the old machine runs it")
    (spec,) = [json.loads(p.read_bytes()) for p in (world.root / "store/job").glob("spec.json.*")][
        -1:
    ]
    assert spec["argv"] == argv("0.3")
    assert (world.root / "said").read_text().split()[-1] == "0.3"


def test_a_name_belongs_to_the_user_who_ran_it_first(world: World) -> None:
    """Another user's job in the store: `run` with its name is refused, on whatever machine."""
    first = world.machine()
    first.submit("job", world.argv(steps=20))
    world.until(lambda: _state(first) == "finished", "it is over")
    backend = open_backend(world.store)
    document = backend.read_document("job/spec.json")
    assert document is not None
    theirs = json.dumps({**json.loads(document.body), "user": "somebody"}).encode()
    backend.write_document("job/spec.json", theirs, document.version)
    second = world.machine()
    with pytest.raises(ProblemError, match="belongs to the user somebody"):
        second.submit("job", world.argv(steps=20))
    with pytest.raises(ProblemError, match="belongs to the user somebody"):
        second.submit("job", world.argv(steps=20), change="new")
    assert second.job("job") is None


def _as_nobody(machine: Machine, target: str, body: Any) -> int:
    """POST as another user; the status of the answer. The child runs nothing but this call."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 99
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        request(machine.socket, "POST", target, body)
        status = 20
    except ProblemError as error:
        status = error.status - 400
    finally:
        os._exit(status)


@pytest.mark.root
def test_two_users_one_name_on_one_machine(world: World) -> None:
    """The second one can neither have the name, nor stop or remove what has it."""
    world.root.chmod(0o711)
    machine = world.machine(socket_mode="0666")
    machine.submit("job", world.argv())
    world.reach(5)
    job = {"name": "job", "argv": ["/bin/true"], "cwd": "/srv", "checkpoint_dir": "/srv/nobody"}
    assert _as_nobody(machine, "/v1/jobs", job) == 9
    assert _as_nobody(machine, "/v1/jobs", {**job, "change": "new"}) == 9
    for do in ("stop", "start", "remove"):
        assert _as_nobody(machine, "/v1/control", {"name": "job", "do": do}) == 4
    assert _as_nobody(machine, "/v1/jobs/job/log", {}) == 4
    world.reach(world.step() + 20)
    assert _state(machine) == "running"
    assert world.head().get("wanted") is None
