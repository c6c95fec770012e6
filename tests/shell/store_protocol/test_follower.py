"""A checkpoint is sent while it is written, and nobody sees it before its commit."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotwatchd.store.jobs import restore_to
from spotwatchd.store.layout import checkpoints_prefix
from spotwatchd.store.local_scan import mark_of
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.daemon import Message, until
from tests.shell.store_protocol.machine import JOB, Machine

MIB = 1 << 20
BODY = random.Random(1).randbytes(40 * MIB)


def draft(machine: Machine, step: int) -> Path:
    """What the client makes before it saves."""
    path = machine.checkpoints / f".saving-step-{step:012d}-1-a"
    path.mkdir()
    return path


def seal(machine: Machine, written: Path, step: int) -> Message:
    """Rename it into its place."""
    sealed = machine.checkpoints / f"step-{step:012d}"
    written.rename(sealed)
    return {"path": sealed.name, "step": step, "mark": mark_of(sealed)}


def uploads(store: Store) -> list[str]:
    """The keys of unfinished uploads."""
    return [key for key, _, _ in store.backend.open_uploads(JOB)]


def wait_for_growth(machine: Machine, size: int) -> Message:
    """Until so many bytes were sent early; the event that says so."""

    def far_enough() -> bool:
        return any(event["sent"] >= size for event in machine.daemon.said("growing"))

    until(far_enough, 30, "growing")
    return machine.daemon.said("growing")[-1]


def committed_bytes(store: Store, scratch: Path) -> dict[str, bytes]:
    """What a restore brings."""
    found = restore_to(store.backend, JOB, scratch).path
    return {
        str(path.relative_to(found)): path.read_bytes()
        for path in found.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def machine(store: Store, machines: MakeMachine) -> Iterator[Machine]:
    made = machines(store)
    made.start()
    made.take()
    yield made
    made.close()


def test_most_of_it_is_there_before_the_seal_and_all_of_it_is_right_after(
    store: Store, machine: Machine, tmp_path: Path
) -> None:
    """Also where the program went back and wrote a header at last; nothing showed early."""
    path = draft(machine, 10)
    (path / "model.pt").write_bytes(BODY)
    (path / "small").write_bytes(b"1")
    event = wait_for_growth(machine, 32 * MIB)
    assert event["path"] == path.name
    assert event["size"] >= event["sent"]
    assert len(uploads(store)) == 1
    assert list(store.backend.objects(checkpoints_prefix(JOB))) == []
    with (path / "model.pt").open("r+b") as file:
        file.write(b"header")
    sealed = seal(machine, path, 10)
    uploaded = machine.daemon.ask("upload", "uploaded", seal=sealed, cause="notice", deadline=None)
    assert uploaded["size"] == len(BODY) + 1
    assert uploaded["sent"] <= 32 * MIB
    machine.daemon.ask("commit", "committed", seal=sealed, cause="notice", deadline=None)
    expected = {"model.pt": b"header" + BODY[6:], "small": b"1"}
    assert committed_bytes(store, tmp_path / "scratch") == expected
    assert uploads(store) == []


@pytest.mark.parametrize("how", ["discarded", "another step"])
def test_what_no_seal_takes_over_is_given_up(
    directory: Store, machines: MakeMachine, how: str, tmp_path: Path
) -> None:
    machine = machines(directory)
    machine.start()
    machine.take()
    path = draft(machine, 10)
    (path / "model.pt").write_bytes(BODY)
    wait_for_growth(machine, 16 * MIB)
    assert uploads(directory)
    if how == "discarded":
        (path / "model.pt").unlink()
        path.rmdir()
    else:
        sealed = seal(machine, path, 11)
        machine.daemon.ask("upload", "uploaded", seal=sealed, cause="own", deadline=None)
        machine.daemon.ask("commit", "committed", seal=sealed, cause="own", deadline=None)
        assert committed_bytes(directory, tmp_path / "scratch") == {"model.pt": BODY}
    until(lambda: uploads(directory) == [], what="the uploads are gone")


def test_a_plain_file_is_followed_through_its_rename(
    directory: Store, machines: MakeMachine, tmp_path: Path
) -> None:
    """Written as model-40.pt.tmp, sealed as model-40.pt: the inode tells that it is the same."""
    machine = machines(directory, checkpoint_glob="*.pt", settle_seconds=0.2)
    machine.start()
    machine.take()
    temporary = machine.checkpoints / "model-40.pt.tmp"
    temporary.write_bytes(BODY)
    wait_for_growth(machine, 32 * MIB)
    temporary.rename(machine.checkpoints / "model-40.pt")
    sealed = machine.daemon.wait("sealed")["seal"]
    assert (sealed["path"], sealed["step"]) == ("model-40.pt", 40)
    uploaded = machine.daemon.ask("upload", "uploaded", seal=sealed, cause="own", deadline=None)
    assert uploaded["sent"] < 16 * MIB
    machine.daemon.ask("commit", "committed", seal=sealed, cause="own", deadline=None)
    restore_to(directory.backend, JOB, tmp_path / "scratch")
    assert (tmp_path / "scratch/model-40.pt").read_bytes() == BODY


def test_many_shards_and_a_hole(directory: Store, machines: MakeMachine, tmp_path: Path) -> None:
    """Shards that stand still are sent whole; a stretch that is not written yet is not."""
    machine = machines(directory)
    machine.start()
    machine.take()
    path = draft(machine, 10)
    shards = {f"__{number}_0.distcp": BODY[number * MIB :][: 2 * MIB] for number in range(6)}
    for name, body in shards.items():
        (path / name).write_bytes(body)
    with (path / "later").open("wb") as file:
        os.ftruncate(file.fileno(), 20 * MIB)
    wait_for_growth(machine, 12 * MIB)
    (path / "later").write_bytes(BODY[: 20 * MIB])
    sealed = seal(machine, path, 10)
    machine.daemon.ask("upload", "uploaded", seal=sealed, cause="own", deadline=None)
    machine.daemon.ask("commit", "committed", seal=sealed, cause="own", deadline=None)
    expected = {**shards, "later": BODY[: 20 * MIB]}
    assert committed_bytes(directory, tmp_path / "scratch") == expected


def test_what_is_committed_while_another_is_written_comes_before_it(
    directory: Store, machines: MakeMachine
) -> None:
    """Ids are in the order of the commits, although the later one was chosen first."""
    machine = machines(directory)
    machine.start()
    machine.take()
    path = draft(machine, 20)
    (path / "model.pt").write_bytes(BODY)
    wait_for_growth(machine, 16 * MIB)
    first = machine.commit(10)["checkpoint_id"]
    sealed = seal(machine, path, 20)
    uploaded = machine.daemon.ask("upload", "uploaded", seal=sealed, cause="own", deadline=None)
    assert uploaded["sent"] < len(BODY)
    done = machine.daemon.ask("commit", "committed", seal=sealed, cause="own", deadline=None)
    assert done["checkpoint_id"] > first
