"""Nonsense told to a real daemon: a clear refusal each time, and the main job goes on."""

from __future__ import annotations

from typing import Any

import pytest

from spotwatchd.wire.http import ProblemError
from tests.e2e.conftest import World

REPLICATOR: list[Any] = [
    {},
    {"event": "no such word"},
    {"event": "taken"},
    {"event": "taken", "no": "x", "generation": 1, "restored": None},
    {"event": "taken", "no": 1, "generation": 1, "restored": {"path": "a"}},
    {"event": "committed", "no": 1, "seal": None, "checkpoint_id": "x"},
    {"event": "uploaded", "no": 1, "size": "big", "seconds": 1},
    {"event": "hello"},
    {"event": "hello", "generation": [], "committed": None, "sealed": None},
    {"event": "sealed", "seal": 7},
]
JOBS: list[Any] = [
    [],
    {"name": "x"},
    {"name": "../x", "checkpoint_dir": "/data/x"},
    {"name": "x", "checkpoint_dir": "relative"},
    {"name": "x", "checkpoint_dir": "/data/x", "argv": "not a list"},
    {"name": "x", "checkpoint_dir": "/data/x", "store": "ftp://x"},
    {"name": "x", "checkpoint_dir": "/data/x", "signal": "SIGNOTHING"},
    {"name": "x", "checkpoint_dir": "/data/x", "surprise": 1},
]


def test_nonsense_is_refused_and_nothing_is_lost(world: World) -> None:
    """Every refusal says what and how to mend it; afterwards the job is saved as ever."""
    machine = world.machine()
    machine.submit("job", world.argv())
    world.reach(20)
    calls = [("/v1/jobs/job/replicator/events", body) for body in REPLICATOR]
    calls += [("/v1/jobs", body) for body in JOBS]
    calls += [("/v1/jobs/job/checkpoints", {"phase": "sealed", "step": 1, "path": "../../etc"})]
    for target, body in calls:
        with pytest.raises(ProblemError) as refused:
            machine.post(target, body)
        assert 400 <= refused.value.status < 500, (body, refused.value.problem)
        assert refused.value.remedy, body
    assert '"bug' not in machine.log()
    machine.post("/v1/jobs/job/ask")
    world.until(world.committed, "it is saved as ever")


def test_a_job_of_that_name_with_another_command_is_refused(world: World) -> None:
    """The running one is not touched."""
    machine = world.machine()
    machine.submit("job", world.argv())
    world.reach(5)
    with pytest.raises(ProblemError) as refused:
        machine.submit("job", ["/bin/true"])
    assert "exists with another spec" in str(refused.value)
    assert machine.job("job")["attempt"] == 1
    assert machine.submit("job", world.argv())["name"] == "job"


def test_a_seal_that_is_not_there_loses_nothing(world: World) -> None:
    """A process claims a checkpoint that does not exist: said, and the next real one counts."""
    machine = world.machine()
    machine.submit("job", world.argv())
    world.reach(20)
    machine.post(
        "/v1/jobs/job/checkpoints",
        {"phase": "sealed", "step": 7, "path": "step-000000000007", "mark": "1-1"},
    )
    world.until(lambda: "step-000000000007" in machine.log(), "it is named")
    machine.post("/v1/jobs/job/ask")
    world.until(lambda: world.committed() >= 20, "the next one is saved")
