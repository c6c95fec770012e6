"""Several machines, one job: who wins, who is fenced, and what a sleeper may not do."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from spotwatchd.store.base import Backend
from spotwatchd.store.jobs import restore_to
from spotwatchd.store.layout import checkpoints_prefix, head_key
from tests.servers.proxy import Fault, Proxy
from tests.servers.seaweed import Seaweed
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


def restorable(backend: Backend, scratch: Path) -> list[int]:
    """The steps that head lists; each of them is restored and compared byte for byte."""
    listed = steps(backend)
    for step in listed:
        assert restore_to(backend, JOB, scratch, step).step == step
        assert holds(scratch, step)
    return listed


@pytest.mark.parametrize("count", [2, 5])
def test_racing_replicators_have_one_owner_at_a_time(
    directory: Store, machines: MakeMachine, count: int
) -> None:
    """Processes that all want the job get it one after the other, 100 times."""
    racers = [machines(directory, f"r{n}", lease_seconds=3.0) for n in range(count)]
    for racer in racers:
        racer.start()
    wishes = {racer.name: racer.daemon.tell("take") for racer in racers}
    generations: list[int] = []
    while len(generations) < 100:
        owner, taken = next_owner(racers, wishes)
        assert taken["generation"] > max(generations, default=0)
        generations.append(taken["generation"])
        others = [r for r in racers if r is not owner and is_taken(r, wishes)]
        assert others == [], "two owners at once"
        owner.release()
        wishes[owner.name] = owner.daemon.tell("take")
    assert head_of(directory.backend).attempts >= 100


def is_taken(racer: Machine, wishes: dict[str, int]) -> bool:
    """Whether the racer's last wish was granted."""
    return any(event["no"] == wishes[racer.name] for event in racer.daemon.said("taken"))


def next_owner(racers: list[Machine], wishes: dict[str, int]) -> tuple[Machine, dict[str, int]]:
    """Wait until one of them has the job."""
    until(lambda: any(is_taken(racer, wishes) for racer in racers), what="an owner")
    owner = next(racer for racer in racers if is_taken(racer, wishes))
    return owner, owner.daemon.wait("taken", no=wishes[owner.name])


def test_a_stopped_owner_commits_nothing(
    store: Store, machines: MakeMachine, tmp_path: Path
) -> None:
    """SIGSTOP past the lease, with a commit under way: it wakes up, changes nothing, says lost."""
    a, b = machines(store, "a", keep_last=1), machines(store, "b", keep_last=2)
    a.start_stepper(f"SIGSTOP write_document {head_key(JOB)} 3")
    a.take()
    a.commit(10)
    seal = seal_message(save(a.checkpoints, 90))
    a.daemon.tell("commit", seal=seal, cause="periodic")
    until(a.stopped, what="stop before the head swap")
    b.start()
    assert b.take()["restored"]["step"] == 10
    b.commit(20)
    before = head_of(store.backend)
    a.signal(signal.SIGCONT)
    a.daemon.wait("lost")
    a.daemon.wait("commit_failed")
    assert head_of(store.backend) == before
    assert restorable(store.backend, tmp_path / "check") == [10, 20]


@pytest.mark.parametrize(
    "order",
    [
        "SIGSTOP put_bytes .removed 1",
        "SIGSTOP objects checkpoints/ 2",
        "SIGSTOP delete MANIFEST 1",
        "SIGSTOP delete model.pt 1",
    ],
)
def test_a_stopped_sweeper_removes_nothing_that_is_listed(
    directory: Store, machines: MakeMachine, tmp_path: Path, order: str
) -> None:
    """Stopped anywhere in a deletion while B takes over, rebuilds head, and commits."""
    a, b = machines(directory, "a", keep_last=1), machines(directory, "b", keep_last=9)
    a.start_stepper(order)
    a.take()
    a.commit(10)
    a.commit(20)
    until(a.stopped, what="stop in the sweep")
    damage(directory.backend)
    b.start()
    assert b.take()["restored"]["step"] == 20
    b.commit(30)
    a.signal(signal.SIGCONT)
    a.daemon.wait("lost")
    b.commit(40)
    assert restorable(directory.backend, tmp_path / "check")[-3:] == [20, 30, 40]


def damage(backend: Backend) -> None:
    """Make head unreadable, so that the next owner must rebuild it."""
    document = backend.read_document(head_key(JOB))
    assert document is not None
    backend.write_document(head_key(JOB), b"garbage", document.version)


def test_a_stopped_sweeper_of_a_dead_attempt_leaves_the_new_owner_alone(
    directory: Store, machines: MakeMachine, tmp_path: Path
) -> None:
    """An orphan of an older generation is swept; a new owner's upload of that moment is not."""
    a, b = machines(directory, "a"), machines(directory, "b")
    a.start_stepper("SIGKILL put_bytes MANIFEST 2")
    a.take()
    a.commit(10)
    seal = seal_message(save(a.checkpoints, 20))
    a.daemon.tell("commit", seal=seal, cause="periodic")
    assert a.process is not None
    assert a.process.wait(20) == -signal.SIGKILL
    b.start()
    b.take()
    b.commit(30)
    until(lambda: len(stored(directory.backend)) == 2, what="sweep of the orphan")
    assert restorable(directory.backend, tmp_path / "check") == [10, 30]


def stored(backend: Backend) -> set[str]:
    """The checkpoints of which the store has anything."""
    return {info.key.split("/")[2] for info in backend.objects(checkpoints_prefix(JOB))}


def test_a_store_that_is_away_delays_commits_only(
    seaweed: Seaweed, s3: Store, machines: MakeMachine
) -> None:
    """Away for longer than the lease: nothing is lost, then the same generation commits."""
    with Proxy(seaweed.port) as proxy:
        url = s3.url.replace(seaweed.endpoint, proxy.endpoint)
        a = machines(Store(url, s3.backend), lease_seconds=1.5)
        a.start()
        generation = a.take()["generation"]
        a.commit(10)
        proxy.add(Fault("drop", times=-1))
        seal = seal_message(save(a.checkpoints, 20))
        no = a.daemon.tell("commit", seal=seal, cause="periodic")
        assert "the lease ran out" in a.daemon.wait("alarm")["what"]
        assert steps(s3.backend) == [10]
        proxy.clear()
        a.daemon.wait("committed", no=no)
        assert a.daemon.said("lost") == []
        assert head_of(s3.backend).generation == generation
        assert steps(s3.backend) == [10, 20]
        a.kill()  # before the proxy goes, or it has a connection left open


def test_a_directory_that_is_not_mounted_for_a_while(
    directory: Store, machines: MakeMachine, tmp_path: Path
) -> None:
    """Refused while away, with the remedy; the same generation commits once it is back."""
    a = machines(directory, lease_seconds=1.0)
    a.start()
    generation = a.take()["generation"]
    (tmp_path / "store").rename(tmp_path / "away")
    a.daemon.wait("alarm")
    seal = seal_message(save(a.checkpoints, 20))
    failed = a.daemon.ask("commit", "commit_failed", seal=seal, cause="periodic")
    assert failed["final"] is False
    (tmp_path / "away").rename(tmp_path / "store")
    a.daemon.ask("commit", "committed", seal=seal, cause="periodic")
    assert a.daemon.said("lost") == []
    assert head_of(directory.backend).generation == generation
    assert steps(directory.backend) == [20]


def test_a_job_that_must_not_overlap_stops_at_expiry(
    directory: Store, machines: MakeMachine, tmp_path: Path
) -> None:
    """With stop_on_lease_expiry the owner gives up when its lease runs out."""
    a = machines(directory, lease_seconds=1.0, stop_on_lease_expiry=True)
    a.start()
    a.take()
    (tmp_path / "store").rename(tmp_path / "away")
    assert "ran out" in a.daemon.wait("lost")["reason"]


@pytest.mark.parametrize("key", ["lease.json", "head.json", "spec.json", "MANIFEST.json"])
@pytest.mark.parametrize("kind", ["lose", "drop"])
def test_a_lost_answer_is_not_a_failure(
    seaweed: Seaweed, s3: Store, machines: MakeMachine, key: str, kind: str
) -> None:
    """Whichever write is done and not answered, or not done: taken and committed, once."""
    with Proxy(seaweed.port) as proxy:
        proxy.add(Fault(kind, method="PUT", path=key, times=2))  # type: ignore[arg-type]
        url = s3.url.replace(seaweed.endpoint, proxy.endpoint)
        a = machines(Store(url, s3.backend), lease_seconds=10.0)
        a.start()
        assert a.take()["generation"] == 1
        a.commit(10)
        a.commit(20)
        head = head_of(s3.backend)
        assert (steps(s3.backend), head.attempts, head.generation) == ([10, 20], 1, 1)
        a.kill()  # before the proxy goes, or it has a connection left open


def test_a_deadline_ends_a_commit(directory: Store, machines: MakeMachine) -> None:
    """What cannot be done before the deadline is answered then, and is not final."""
    a = machines(directory)
    a.start()
    a.take()
    seal = seal_message(save(a.checkpoints, 10))
    failed = a.daemon.ask("upload", "upload_failed", seal=seal, cause="notice", deadline=1.0)
    assert failed["final"] is False
    a.daemon.ask("commit", "committed", seal=seal, cause="notice", deadline=None)
