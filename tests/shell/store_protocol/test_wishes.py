"""What people say about a job, as its replicator sees it; and runs that follow one another."""

from __future__ import annotations

from typing import Any

import pytest

from spotwatchd.errors import JobError
from spotwatchd.store.tails import read_log
from spotwatchd.store.wishing import say, wish
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.machine import JOB, head_of, save, steps


def another_spec(run_id: str, revision: int, rate: str = "0.1") -> dict[str, Any]:
    """What a person changed on purpose."""
    argv = ["true", "--lr", rate]
    return {"version": 1, "name": JOB, "run_id": run_id, "argv": argv, "revision": revision}


def test_the_owner_hears_of_a_wish(store: Store, machines: MakeMachine) -> None:
    """Within a renewal; its commits go on until it has stopped; then nobody takes it."""
    a, b = machines(store, "a"), machines(store, "b")
    a.start()
    a.take()
    a.commit(10)
    wanted = wish("stopped")
    say(store.backend, JOB, wanted)
    assert say(store.backend, JOB, wanted).wanted is not None, "said twice is said once"
    heard = a.daemon.wait("wanted")
    assert (heard["state"], heard["save"], heard["by"]) == ("stopped", True, wanted.by)
    a.commit(20)
    assert head_of(store.backend).wanted is not None
    a.release("stopped")
    b.start()
    assert b.take()["ended"] == "stopped"
    assert head_of(store.backend).generation == 1
    say(store.backend, JOB, wish("running"))
    assert b.take()["restored"]["step"] == 20


def test_a_daemon_that_was_away_hears_of_it(directory: Store, machines: MakeMachine) -> None:
    """Hello repeats what speaks against running."""
    a = machines(directory, "a", lease_seconds=1.0)
    a.start()
    a.take()
    say(directory.backend, JOB, wish("stopped", save=False))
    a.daemon.wait("wanted")
    assert a.daemon.wait("hello")["wanted"] is None
    before = len(a.daemon.events)
    a.daemon.hang_up()
    heard = a.daemon.wait("hello", since=before)["wanted"]
    assert (heard["state"], heard["save"]) == ("stopped", False)


def test_no_such_job(directory: Store) -> None:
    """A wish makes no job."""
    with pytest.raises(JobError, match="no job"):
        say(directory.backend, JOB, wish("stopped"))


def test_another_run_starts_from_nothing(store: Store, machines: MakeMachine) -> None:
    """Also where the old run's newest checkpoint lies on the disk and is not committed."""
    a = machines(store, "a")
    a.start()
    a.take()
    a.commit(10)
    save(a.checkpoints, 20)
    a.daemon.wait("sealed")
    a.release()
    a.kill()
    a.settings |= {"spec": another_spec("run-2", 2), "replaces": "run-1"}
    a.start()
    assert a.take()["restored"] is None
    head = head_of(store.backend)
    assert (head.run_id, head.checkpoints) == ("run-2", ())
    assert [entry.id.step for entry in head.retired] == [10]
    a.commit(5)
    a.release()
    assert a.take()["restored"]["step"] == 5, "the same command again goes on with the new run"
    assert steps(store.backend) == [5]


def test_a_machine_that_was_off_follows_the_changed_spec(
    directory: Store, machines: MakeMachine
) -> None:
    """It runs what the store says; where it may not, it takes nothing."""
    first = machines(directory, "a", spec=another_spec("run-1", 1))
    second = machines(directory, "b", spec=another_spec("run-1", 2, "0.2"))
    for machine in (first, second):
        machine.start()
        machine.take()
        machine.release()
    assert first.take()["spec"]["argv"] == ["true", "--lr", "0.2"]
    first.release()
    third = machines(directory, "c", spec=another_spec("run-1", 1), follow_spec=False)
    third.start()
    failed = third.daemon.ask("take", "take_failed")
    assert "--lr 0.2 -> --lr 0.1" in failed["reason"]
    assert head_of(directory.backend).generation == 3


def test_a_machine_is_made_ready_for_the_spec_that_was_agreed_on(
    directory: Store, machines: MakeMachine
) -> None:
    """Not for the one it was started with; also when it is killed after the take."""

    def spec(revision: int, rate: str) -> dict[str, Any]:
        changed = another_spec("run-1", revision, rate)
        return {**changed, "argv": ["/bin/true", "--lr", rate], "cwd": "/"}

    first = machines(directory, "a", spec=spec(1, "0.1"))
    second = machines(directory, "b", spec=spec(2, "0.2"))
    for machine in (first, second):
        machine.start()
        machine.take()
        machine.release()
    first.take()
    asked: dict[str, Any] = {"env": {}, "here": True}
    assert first.daemon.ask("prepare", "prepared", **asked)["argv"][2] == "0.2"
    first.kill()
    first.start()
    assert first.daemon.ask("prepare", "prepared", **asked)["argv"][2] == "0.2"
    taken = first.take()
    assert taken["spec"]["argv"][2] == "0.2"
    assert taken["generation"] == 3, "the tenure went on"


def test_the_end_of_the_output_is_kept(store: Store, machines: MakeMachine) -> None:
    """At the release of each attempt; a long one from a whole line on."""
    a = machines(store, "a")
    output = a.runtime / "attempt-000007" / "output.log"
    output.parent.mkdir()
    output.write_bytes(b"first\n" + b"line of output\n" * 50_000 + b"CUDA out of memory\n")
    a.start()
    a.take()
    a.release()
    number, machine, text = read_log(store.backend, JOB, None)
    assert (number, machine) == (7, "i-a")
    assert text.startswith(b"line of output\n")
    assert text.endswith(b"\nCUDA out of memory\n")
    assert len(text) <= 256 << 10
