"""A restore that is killed, powered off, or finds some of it on the disk already."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
from pathlib import Path

import pytest

from spotwatchd.core.ids import CheckpointId
from spotwatchd.errors import Damaged, JobError
from spotwatchd.store import partial, ranges, unsynced
from spotwatchd.store.base import Backend
from spotwatchd.store.layout import file_key
from spotwatchd.store.listing import read_manifest
from spotwatchd.store.restore import How, restore
from spotwatchd.wire.seal import sealed_name
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import JOB, holds, save

LARGE = ranges.RANGE + (5 << 20) + 12_345


@functools.cache
def large(seed: int = 0) -> dict[str, bytes]:
    """Files of several ranges, of one, of none, and with runs of zeros."""
    body = bytearray(random.Random(seed).randbytes(LARGE))
    body[ranges.RANGE + 1000 : -1000] = bytes(LARGE - ranges.RANGE - 2000)
    return {
        "model.pt": bytes(body),
        "frozen/weights": b"frozen" * 700_000,
        "empty": b"",
        "zeros": bytes(3 << 20),
    }


@pytest.fixture
def owner(machines: MakeMachine, directory: Store) -> Hands:
    """Has the job, on a directory store."""
    hands = Hands(machines(directory, "a", lease_seconds=30.0), directory.backend)
    hands.take()
    return hands


def commit(owner: Hands, step: int, files: dict[str, bytes]) -> CheckpointId:
    """Commits ``files``."""
    found = CheckpointId.find(owner.commit_seal(save(owner.machine.checkpoints, step, files)))
    assert found is not None
    return found


def same(directory: Path, step: int, files: dict[str, bytes]) -> bool:
    """Whether exactly ``files`` are there under the step's name."""
    sealed = directory / sealed_name(step)
    names = {str(path.relative_to(sealed)) for path in sealed.rglob("*") if path.is_file()}
    return names == set(files) and all((sealed / n).read_bytes() == files[n] for n in names)


def hidden(directory: Path) -> list[str]:
    """What a restore left behind."""
    return [path.name for path in directory.glob(".restoring-*")]


def killed_restore(backend: Backend, wanted: CheckpointId, target: Path, at: int) -> bool:
    """Restore in a child that dies after ``at`` ranges were written; whether it did."""
    pid = os.fork()
    if pid == 0:
        left = at

        def profile(frame: object, event: str, _: object) -> None:
            nonlocal left
            if event == "return" and frame.f_code.co_name == "note":  # type: ignore[attr-defined]
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        import threading

        threading.setprofile(profile)
        restore(backend, JOB, wanted, target, How(threads=1))
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_killed_restore_goes_on_where_it_was(
    directory: Store, owner: Hands, tmp_path: Path, at: int
) -> None:
    """The ranges that had arrived are not fetched again."""
    wanted = commit(owner, 10, large())
    target = tmp_path / "to"
    assert killed_restore(directory.backend, wanted, target, at)
    assert not (target / sealed_name(10)).exists()
    done = restore(directory.backend, JOB, wanted, target)
    sizes = [len(body) for _, body in sorted(large().items())]
    parts = [ranges.length(size, at) for size in sizes for at in ranges.offsets(size)]
    assert done.fetched == sum(parts[at:])
    assert same(target, 10, large())
    assert hidden(target) == []


def break_bytes(path: Path, offset: int, body: bytes) -> None:
    """What a power cut does to pages that were not written."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(body)


def test_after_a_power_cut_ranges_are_read_before_they_are_believed(
    directory: Store, owner: Hands, tmp_path: Path
) -> None:
    """What the disk lost is fetched again, what it kept is not."""
    wanted = commit(owner, 10, large())
    target = tmp_path / "to"
    assert killed_restore(directory.backend, wanted, target, 4)
    root = partial.place_of(target, wanted) / "files"
    break_bytes(root / "model.pt", 5000, bytes(4096))
    before_a_boot = How(boot_id="another boot")
    done = restore(directory.backend, JOB, wanted, target, before_a_boot)
    assert same(target, 10, large())
    kept = len(large()["frozen/weights"]) + LARGE - ranges.RANGE
    assert done.fetched == sum(map(len, large().values())) - kept


def test_what_a_torn_log_says_does_no_harm(directory: Store, owner: Hands, tmp_path: Path) -> None:
    """Half a line, and zeros, as file systems leave them behind."""
    wanted = commit(owner, 10, large())
    target = tmp_path / "to"
    assert killed_restore(directory.backend, wanted, target, 4)
    log = partial.place_of(target, wanted) / "log"
    log.write_bytes(log.read_bytes()[:-7] + bytes(100) + b"\nrange 2 x y\nrange 99 0 0\nrange 2")
    restore(directory.backend, JOB, wanted, target)
    assert same(target, 10, large())


def test_zeros_are_written_over_what_an_earlier_try_left(
    directory: Store, owner: Hands, tmp_path: Path
) -> None:
    """A range that was half written with wrong bytes, and should hold zeros."""
    wanted = commit(owner, 10, large())
    target = tmp_path / "to"
    assert killed_restore(directory.backend, wanted, target, 3)
    files = partial.place_of(target, wanted) / "files"
    break_bytes(files / "model.pt", ranges.RANGE + (3 << 20), b"rubbish")
    log = partial.place_of(target, wanted) / "log"
    lines = [line for line in log.read_text().splitlines() if line.startswith("range 2 ")]
    assert len(lines) == 1  # the first range of model.pt, so the second was not finished
    restore(directory.backend, JOB, wanted, target)
    assert same(target, 10, large())


def test_runs_of_zeros_stay_holes(directory: Store, owner: Hands, tmp_path: Path) -> None:
    """A sparse checkpoint takes no more room than it did."""
    wanted = commit(owner, 10, {"sparse": b"x" + bytes(LARGE)})
    restore(directory.backend, JOB, wanted, tmp_path / "to")
    found = (tmp_path / "to" / sealed_name(10) / "sparse").stat()
    assert found.st_size == LARGE + 1
    assert found.st_blocks * 512 < 3 << 20


def test_only_the_files_that_differ_are_fetched(
    directory: Store, owner: Hands, tmp_path: Path
) -> None:
    """A local checkpoint with one wrong file lends its others."""
    wanted = commit(owner, 10, large())
    target = tmp_path / "to"
    target.mkdir()
    save(target, 10, {**large(), "frozen/weights": b"thawed" * 700_000, "more": b"x"})
    done = restore(directory.backend, JOB, wanted, target)
    assert done.fetched == 6 * 700_000
    assert not done.local
    assert same(target, 10, large())


def test_what_another_local_checkpoint_has_is_copied(directory: Store, owner: Hands) -> None:
    """Frozen weights are on this disk already, in the checkpoint before."""
    old = commit(owner, 10, large())
    wanted = commit(owner, 20, {**large(1), "frozen/weights": large()["frozen/weights"]})
    mine = owner.machine.checkpoints
    for path in sorted((mine / sealed_name(20)).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (mine / sealed_name(20)).rmdir()
    done = restore(directory.backend, JOB, wanted, mine, How(others={sealed_name(10): old}))
    assert done.fetched == len(large(1)["model.pt"])
    weights = [mine / sealed_name(step) / "frozen/weights" for step in (10, 20)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not weights[0].samefile(weights[1])


def test_the_restore_of_another_checkpoint_clears_what_was_begun(
    directory: Store, owner: Hands
) -> None:
    """A checkpoint that is not wanted any more does not fill the disk."""
    old = commit(owner, 10, large())
    commit(owner, 20, large(1))
    owner.release()
    b = Hands(owner.machine, directory.backend)
    there = b.machine.base / "elsewhere"
    assert killed_restore(directory.backend, old, there, 3)
    assert hidden(there) != []
    partial.clear(there, keep=old)
    assert hidden(there) != []
    partial.clear(there)
    assert hidden(there) == []


def test_two_restores_of_one_checkpoint_do_not_meet(
    directory: Store, owner: Hands, tmp_path: Path
) -> None:
    """The second works in a place of its own, and clearing leaves the first alone."""
    wanted = commit(owner, 10, large())
    manifest = read_manifest(directory.backend, JOB, wanted)
    first = partial.Partial(tmp_path, manifest, "boot")
    second = partial.Partial(tmp_path, manifest, "boot")
    try:
        assert first.root != second.root
        partial.clear(tmp_path)
        assert len(hidden(tmp_path)) == 2
    finally:
        first.close()
        second.close()
    partial.give_up(tmp_path, wanted)
    assert hidden(tmp_path) == []


def test_a_checkpoint_that_does_not_fit_is_refused_at_once(
    machines: MakeMachine, directory: Store, tmp_path: Path
) -> None:
    """The message says how much is missing, and nothing was fetched."""
    hands = Hands(machines(directory, "a", lease_seconds=30.0), directory.backend)
    hands.take()
    seal = save(hands.machine.checkpoints, 10, {"small": b"x"})
    wanted = CheckpointId.find(hands.commit_seal(seal))
    assert wanted is not None
    key = file_key(JOB, wanted, "MANIFEST.json")
    body = b"".join(directory.backend.read(key))
    directory.backend.delete([key])
    directory.backend.put_bytes(key, body.replace(b'"size": 1', b'"size": 99000000000000000'))
    with pytest.raises(JobError, match=r"[\d,]+ bytes more are needed") as error:
        restore(directory.backend, JOB, wanted, tmp_path / "to")
    assert "free space" in error.value.remedy


def test_a_power_cut_before_the_disk_had_it_takes_the_name_away(
    machines: MakeMachine, directory: Store, owner: Hands
) -> None:
    """A torn restored checkpoint is not taken for one that the job sealed here."""
    commit(owner, 10, large())
    owner.release()
    b = Hands(machines(directory, "b", lease_seconds=30.0), directory.backend)
    sealed = b.machine.checkpoints / sealed_name(10)
    assert b.take().restored is not None
    wanted = read_manifest(directory.backend, JOB, owner_id(b))
    b.release()
    note = unsynced.Note(
        b.machine.checkpoints, wanted.id, sealed.name, sealed.stat().st_ino, "an earlier boot"
    )
    note.make()
    break_bytes(sealed / "model.pt", 70_000, bytes(8192))
    forget_seals(b.machine.checkpoints)
    again = Hands(b.machine, directory.backend)
    assert again.take().restored is not None
    assert same(b.machine.checkpoints, 10, large())
    assert hidden(b.machine.checkpoints) == []
    assert "restored from" in again.heard.text
    assert f"{LARGE / 1e9:,.3f} GB" in again.heard.text


def forget_seals(directory: Path) -> None:
    """As if the machine had died between the name and the journal."""
    path = directory / ".spotwatch" / f"{JOB}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seals": []}))


def owner_id(hands: Hands) -> CheckpointId:
    """The newest committed checkpoint, as its owner knows it."""
    head = hands.custody.heads.head
    assert head is not None
    return head.checkpoints[-1].id


def test_a_note_goes_when_the_disk_has_the_checkpoint(
    directory: Store, owner: Hands, tmp_path: Path
) -> None:
    """And a note of this boot, left by a process that was killed, is taken up."""
    wanted = commit(owner, 10, large())
    problems: list[OSError] = []
    target = tmp_path / "to"
    restore(directory.backend, JOB, wanted, target, How(problem=problems.append))
    sealed = target / sealed_name(10)
    note = unsynced.Note(target, wanted, sealed.name, sealed.stat().st_ino, "boot")
    note.make()
    unsynced.sync_later(note, problems.append).join(30)
    assert not note.file.exists()
    assert sealed.exists()
    assert problems == []


def test_a_note_about_what_is_gone_is_dropped(tmp_path: Path) -> None:
    """Retention deleted it, or the job sealed another one there."""
    note = unsynced.Note(tmp_path, CheckpointId(1, 1, 10), sealed_name(10), 1, "earlier")
    note.make()
    (note.file.parent / "unsynced-garbage.json").write_bytes(b"{")
    (tmp_path / sealed_name(10)).mkdir()
    unsynced.settle(tmp_path, "now", lambda _: None)
    assert list(note.file.parent.iterdir()) == []
    assert (tmp_path / sealed_name(10)).exists()


def test_a_second_try_goes_on_with_what_the_first_had(
    machines: MakeMachine, directory: Store, owner: Hands
) -> None:
    """A damaged file costs its own bytes twice, not those of the others."""
    wanted = commit(owner, 10, large())
    key = file_key(JOB, wanted, "zeros")
    directory.backend.delete([key])
    directory.backend.put_bytes(key, b"x" * len(large()["zeros"]))
    target = machines(directory, "b").checkpoints
    with pytest.raises(Damaged, match="CRC64NVME"):
        restore(directory.backend, JOB, wanted, target, How(threads=1))
    directory.backend.delete([key])
    directory.backend.put_bytes(key, large()["zeros"])
    done = restore(directory.backend, JOB, wanted, target)
    assert done.fetched == len(large()["zeros"])
    assert same(target, 10, large())


def test_holds_is_not_fooled(owner: Hands) -> None:
    """The helper of these tests tells good from bad."""
    save(owner.machine.checkpoints, 30)
    assert holds(owner.machine.checkpoints, 30)
    assert not same(owner.machine.checkpoints, 30, large())
