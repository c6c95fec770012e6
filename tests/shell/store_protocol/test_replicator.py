"""The replicator as a process: its commands, its events, and what survives what."""

from __future__ import annotations

import signal

from spotwatchd.store.base import Backend
from spotwatchd.store.jobs import list_unfinished, restore_to
from spotwatchd.store.layout import checkpoints_prefix
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.daemon import until
from tests.shell.store_protocol.machine import (
    JOB,
    Machine,
    head_of,
    holds,
    save,
    seal_message,
    steps,
)


def stored(backend: Backend) -> set[str]:
    """The checkpoints of which the store has anything."""
    return {info.key.split("/")[2] for info in backend.objects(checkpoints_prefix(JOB))}


def test_a_job_goes_from_one_machine_to_another(store: Store, machines: MakeMachine) -> None:
    """What A committed is what B, with an empty disk, goes on from; nothing waits."""
    a, b = machines(store, "a"), machines(store, "b")
    a.start()
    first = a.take()
    assert (first["restored"], first["attempts"], first["ended"]) == (None, 1, "")
    a.commit(10)
    a.commit(20)
    a.release()
    b.start()
    second = b.take()
    assert second["restored"]["step"] == 20
    assert second["attempts"] == 2
    assert second["previous"] == "i-a"
    assert second["unannounced"] is False
    assert holds(b.checkpoints, 20)
    assert second["generation"] > first["generation"]
    assert steps(store.backend) == [10, 20]


def test_an_ended_job_is_not_taken(directory: Store, machines: MakeMachine) -> None:
    """A finished job answers how it ended, and its lease stays free."""
    a, b = machines(directory, "a"), machines(directory, "b")
    a.start()
    a.take()
    a.commit(5)
    assert [job.state for job in list_unfinished(directory.backend)] == ["running"]
    a.release("finished")
    b.start()
    assert b.take()["ended"] == "finished"
    assert head_of(directory.backend).generation == 1
    assert list_unfinished(directory.backend) == []


def test_commands_may_be_repeated(directory: Store, machines: MakeMachine) -> None:
    """take, upload, commit and release said twice do what they do once."""
    a = machines(directory)
    a.start()
    assert a.take()["generation"] == a.take()["generation"] == 1
    assert (
        a.commit(10)["checkpoint_id"]
        == a.daemon.ask(
            "commit",
            "committed",
            seal={"path": "step-000000000010", "step": 10},
            cause="periodic",
        )["checkpoint_id"]
    )
    a.release()
    a.release()
    assert head_of(directory.backend).attempts == 1
    assert steps(directory.backend) == [10]


def test_a_killed_replicator_goes_on_where_it_was(directory: Store, machines: MakeMachine) -> None:
    """SIGKILL while training: the next one has the same generation and commits on."""
    a = machines(directory)
    a.start()
    a.take()
    a.commit(10)
    a.kill()
    seen = len(a.daemon.events)
    save(a.checkpoints, 20)
    a.start()
    hello = a.daemon.wait("hello", since=seen)
    assert hello["generation"] == 1
    assert hello["committed"]["step"] == 10
    assert a.take()["generation"] == 1
    until(lambda: any(e["seal"]["step"] == 20 for e in a.daemon.said("sealed")))
    a.commit(30)
    assert steps(directory.backend) == [10, 30]
    assert head_of(directory.backend).attempts == 1


def test_a_reboot_takes_over_at_once_and_uses_what_was_sealed(
    directory: Store, machines: MakeMachine
) -> None:
    """After a reboot the uncommitted checkpoint of the last owner is resumed and committed."""
    a = machines(directory, lease_seconds=30.0)
    a.start()
    a.take()
    a.commit(10)
    save(a.checkpoints, 20)
    until(lambda: any(e["seal"]["step"] == 20 for e in a.daemon.said("sealed")))
    a.reboot()
    seen = len(a.daemon.events)
    a.start()
    taken = a.take(seconds=10.0)
    assert taken["restored"]["step"] == 20
    assert a.daemon.wait("sealed", since=seen)["seal"]["step"] == 20
    fields = {"seal": taken["restored"], "cause": "periodic", "deadline": None}
    a.daemon.ask("commit", "committed", **fields, interruption=None)
    assert steps(directory.backend) == [10, 20]


def test_an_uncommitted_checkpoint_is_history_once_another_owner_went_on(
    directory: Store, machines: MakeMachine
) -> None:
    """A comes back after B: A's uncommitted step 90 is put aside, B's step 20 is used."""
    a, b = machines(directory, "a"), machines(directory, "b")
    a.start()
    a.take()
    a.commit(10)
    save(a.checkpoints, 90)
    until(lambda: any(e["seal"]["step"] == 90 for e in a.daemon.said("sealed")))
    a.release()
    a.kill()
    b.start()
    b.take()
    b.commit(20)
    b.release()
    a.start()
    assert a.take()["restored"]["step"] == 20
    assert holds(a.checkpoints, 20)
    assert not (a.checkpoints / "step-000000000090").exists()


def test_the_daemon_may_be_away(directory: Store, machines: MakeMachine) -> None:
    """An upload that ends without a daemon is committed; its events arrive afterwards."""
    a = machines(directory)
    a.start()
    a.take()
    seal = seal_message(save(a.checkpoints, 10))
    a.daemon.ask("upload", "uploaded", seal=seal, cause="notice", deadline=None)
    a.daemon.stop()
    until(lambda: steps(directory.backend) == [10], what="commit without a daemon")
    seen = len(a.daemon.events)
    a.daemon.start()
    a.daemon.wait("committed", since=seen)
    assert a.daemon.events[seen]["event"] == "hello"
    assert a.daemon.events[seen]["committed"]["step"] == 10


def test_quit_ends_it(directory: Store, machines: MakeMachine) -> None:
    """It exits with 0, and the lease is still its own for a successor on this machine."""
    a = machines(directory)
    a.start()
    a.take()
    a.daemon.tell("quit")
    assert a.process is not None
    assert a.process.wait(10) == 0


def test_one_replicator_a_job(directory: Store, machines: MakeMachine) -> None:
    """A second one on the same machine says why it ends."""
    a = machines(directory)
    a.start()
    a.daemon.wait("hello")
    first = a.process
    a.start()
    assert a.process is not None
    assert a.process.wait(20) == 1
    assert "runs already" in a.log.read_text()
    a.process = first
    a.take()


def test_retention_deletes_after_the_grace_period(store: Store, machines: MakeMachine) -> None:
    """The last two stay, in head and in the store; two committed copies stay on disk."""
    a = machines(store, keep_last=2)
    a.start()
    a.take()
    for step in (10, 20, 30, 40):
        a.commit(step)
    assert steps(store.backend) == [30, 40]
    until(lambda: len(stored(store.backend)) == 2, what="sweep")
    assert {name[-3:] for name in stored(store.backend)} == {"030", "040"}
    local = {path.name[-2:] for path in a.checkpoints.glob("step-*")}
    assert local == {"30", "40"}


def test_a_checkpoint_that_changes_is_refused(directory: Store, machines: MakeMachine) -> None:
    """A seal whose files are gone or replaced fails for good, and nothing is committed."""
    a = machines(directory)
    a.start()
    a.take()
    seal = seal_message(save(a.checkpoints, 10))
    gone = {"path": "step-000000000099", "step": 99, "mark": ""}
    assert a.daemon.ask("upload", "upload_failed", seal=gone, cause="notice")["final"] is True
    other = {**seal, "mark": "1-1"}
    assert a.daemon.ask("commit", "commit_failed", seal=other, cause="notice")["final"] is True
    away = {**seal, "path": "../ckpt/step-000000000010"}
    assert a.daemon.ask("commit", "commit_failed", seal=away, cause="notice")["final"] is True
    assert steps(directory.backend) == []


def test_nonsense_from_the_daemon_is_ignored(directory: Store, machines: MakeMachine) -> None:
    """Unknown words and wrong fields do not stop it."""
    a = machines(directory)
    a.start()
    a.daemon.tell("dance")
    a.daemon.tell("upload", seal=7)
    a.daemon.tell("weight", level="urgent")
    a.daemon.tell("cancel")
    assert a.take()["generation"] == 1


def test_release_ends_the_wait_of_a_take(directory: Store, machines: MakeMachine) -> None:
    """A take that waits for another owner's lease ends when the job is not wanted any more."""
    a, b = machines(directory, "a"), machines(directory, "b", lease_seconds=60.0)
    b.start()
    b.take()
    a.start()
    a.daemon.tell("take")
    assert a.daemon.wait("take_waiting")["owner"]
    a.release()
    assert a.daemon.said("take_failed")
    assert head_of(directory.backend).generation == 1


def test_glob_files_are_checkpoints(directory: Store, machines: MakeMachine) -> None:
    """A plain file that stands still is sealed; elsewhere it gets its own name back."""
    settings = {"checkpoint_glob": "model-*.pt", "settle_seconds": 0.3}
    a, b = machines(directory, "a", **settings), machines(directory, "b", **settings)
    a.start()
    a.take()
    (a.checkpoints / "model-7-step-120.pt").write_bytes(b"weights" * 1000)
    seal = a.daemon.wait("sealed")["seal"]
    assert (seal["path"], seal["step"]) == ("model-7-step-120.pt", 120)
    a.daemon.ask("commit", "committed", seal=seal, cause="periodic")
    a.release()
    b.start()
    assert b.take()["restored"]["path"] == "model-7-step-120.pt"
    assert (b.checkpoints / "model-7-step-120.pt").read_bytes() == b"weights" * 1000


def test_restore_to_brings_a_chosen_step(directory: Store, machines: MakeMachine) -> None:
    """``spotwatch restore`` needs no lease and changes nothing."""
    a = machines(directory)
    a.start()
    a.take()
    a.commit(10)
    a.commit(20)
    before = head_of(directory.backend)
    target = a.runtime.parent / "elsewhere"
    assert restore_to(directory.backend, JOB, target, 10).step == 10
    assert restore_to(directory.backend, JOB, target).step == 20
    assert holds(target, 10)
    assert holds(target, 20)
    assert head_of(directory.backend) == before


def stop_past_the_lease(a: Machine, b: Machine) -> None:
    """Stop A's replicator until B owns the job."""
    a.signal(signal.SIGSTOP)
    b.start()
    b.take()
