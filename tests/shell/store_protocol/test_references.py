"""A file that has not changed is stored once, and stays as long as anybody needs it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from spotwatchd.core.fence import rebuild
from spotwatchd.core.ids import CheckpointId
from spotwatchd.errors import Damaged
from spotwatchd.store.base import Backend
from spotwatchd.store.jobs import restore_to
from spotwatchd.store.layout import checkpoints_prefix, head_key
from spotwatchd.store.listing import complete_manifests, read_manifest
from spotwatchd.store.restore import restore
from tests.shell.store_protocol.conftest import Store
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import JOB, Place, head_of, save, steps

FROZEN = random.Random(2).randbytes(1 << 20)


def content(step: int, frozen: bytes = FROZEN) -> dict[str, bytes]:
    """A large file that never changes, one that always does, and a small one."""
    changing = random.Random(step).randbytes(1 << 20)
    return {"frozen.bin": frozen, "model.pt": changing, "tokenizer.json": b"same"}


def hands_on(base: Path, store: Store, name: str = "a", **settings: object) -> Hands:
    """An owner that keeps two checkpoints and deletes at once."""
    settings = {"keep_last": 2, "grace_seconds": 0.0, **settings}
    hands = Hands(Place(base, store.url, name, **settings), store.backend)
    hands.take()
    return hands


def commit(hands: Hands, step: int, frozen: bytes = FROZEN) -> CheckpointId:
    """Commit the content of ``step``."""
    text = hands.commit_seal(save(hands.machine.checkpoints, step, content(step, frozen)))
    found = CheckpointId.find(text)
    assert found is not None
    return found


def copies(backend: Backend) -> list[str]:
    """The checkpoints that hold a frozen.bin."""
    found = (info.key for info in backend.objects(checkpoints_prefix(JOB)))
    return [key.split("/")[2] for key in found if key.endswith("/frozen.bin")]


def assert_restorable(backend: Backend, scratch: Path, frozen: bytes = FROZEN) -> None:
    """Everything that head lists comes back byte for byte."""
    for entry in head_of(backend).checkpoints:
        found = restore(backend, JOB, entry.id, scratch).path
        there = {path.name: path.read_bytes() for path in found.iterdir()}
        assert there == content(entry.id.step, frozen)


def test_it_is_stored_once_and_restored_from_all(store: Store, tmp_path: Path) -> None:
    """References name the checkpoint that has the bytes, also through many in between."""
    hands = hands_on(tmp_path, store)
    first, *_, last = [commit(hands, step) for step in (10, 20, 30, 40)]
    assert copies(store.backend) == [str(first)]
    manifest = read_manifest(store.backend, JOB, last)
    assert manifest.references == {(first, "frozen.bin")}
    assert_restorable(store.backend, tmp_path / "scratch")


def test_what_is_needed_outlives_its_checkpoint_and_not_for_ever(
    store: Store, tmp_path: Path
) -> None:
    """The sweep takes the rest of the first checkpoint; its frozen file goes with its last user."""
    hands = hands_on(tmp_path, store)
    first = commit(hands, 10)
    for step in (20, 30, 40):
        commit(hands, step)
        hands.sweeper.run()
        assert_restorable(store.backend, tmp_path / "scratch")
    left = [info.key for info in store.backend.objects(f"{checkpoints_prefix(JOB)}/{first}")]
    assert left == [f"{checkpoints_prefix(JOB)}/{first}/frozen.bin"]
    for step in (50, 60):
        commit(hands, step, FROZEN[::-1])
        hands.sweeper.run()
    hands.sweeper.run()
    listed = {str(entry.id) for entry in head_of(store.backend).checkpoints}
    there = {info.key.split("/")[2] for info in store.backend.objects(checkpoints_prefix(JOB))}
    assert there == listed
    assert_restorable(store.backend, tmp_path / "scratch", FROZEN[::-1])


def test_a_changed_byte_is_sent(directory: Store, tmp_path: Path) -> None:
    """Where the probes look, and where they do not."""
    hands = hands_on(tmp_path, directory)
    before = FROZEN
    commit(hands, 10, before)
    for step, at in ((20, 0), (30, 5000), (40, len(FROZEN) - 1)):
        now = bytearray(before)
        now[at] ^= 1
        before = bytes(now)
        checkpoint = commit(hands, step, before)
        assert read_manifest(directory.backend, JOB, checkpoint).references == frozenset()
        found = restore_to(directory.backend, JOB, tmp_path / "scratch", step).path
        assert (found / "frozen.bin").read_bytes() == before


def test_the_next_owner_goes_on_referring(directory: Store, tmp_path: Path) -> None:
    """It reads the manifest of the newest checkpoint; the first owner's object is still used."""
    first = commit(hands := hands_on(tmp_path, directory), 10)
    hands.release()
    other = hands_on(tmp_path, directory, "b")
    second = commit(other, 20)
    assert read_manifest(directory.backend, JOB, second).references == {(first, "frozen.bin")}
    other.sweeper.run()
    assert_restorable(directory.backend, tmp_path / "scratch")


def test_an_unlisted_checkpoint_that_may_be_found_again_protects_its_files(
    directory: Store, tmp_path: Path
) -> None:
    """As long as its manifest is there a rebuild of head could list it."""
    hands = hands_on(tmp_path, directory, keep_last=1)
    first = commit(hands, 10)
    second = commit(hands, 20)
    third = commit(hands, 30, FROZEN[::-1])
    waiting = hands.sweeper._references.to(first)
    assert waiting == {"frozen.bin": {second}}
    assert [m.id for m in complete_manifests(directory.backend, JOB)] == [first, second, third]
    for _ in range(3):
        hands.sweeper.run()
    assert [m.id for m in complete_manifests(directory.backend, JOB)] == [third]


def test_a_rebuilt_head_leaves_out_what_lost_a_file_it_refers_to(
    directory: Store, tmp_path: Path
) -> None:
    hands = hands_on(tmp_path, directory)
    first, second = commit(hands, 10), commit(hands, 20)
    assert len(rebuild(JOB, "", complete_manifests(directory.backend, JOB)).checkpoints) == 2
    directory.backend.delete([f"{checkpoints_prefix(JOB)}/{first}/frozen.bin"])
    assert rebuild(JOB, "", complete_manifests(directory.backend, JOB)).checkpoints == ()
    with pytest.raises(Damaged, match="missing"):
        restore(directory.backend, JOB, second, tmp_path / "scratch")
    directory.backend.delete([head_key(JOB)])
    hands.release()


def test_what_lost_its_base_is_stored_whole(directory: Store, tmp_path: Path) -> None:
    """Between upload and commit the base left the list: the swap is refused, all is sent."""
    hands = hands_on(tmp_path, directory, keep_last=1)
    commit(hands, 10)
    waiting = save(hands.machine.checkpoints, 20, content(20))
    uploaded = hands.custody.upload(waiting, hands.limits())
    assert uploaded.base is not None
    kept = dict(hands.custody._uploads)
    commit(hands, 30, FROZEN[::-1])
    hands.custody._uploads.update(kept)
    text = hands.commit_seal(waiting)
    checkpoint = CheckpointId.find(text)
    assert checkpoint is not None
    assert read_manifest(directory.backend, JOB, checkpoint).references == frozenset()
    for _ in range(3):
        hands.sweeper.run()
    assert steps(directory.backend) == [20]
    assert_restorable(directory.backend, tmp_path / "scratch")


def test_uploads_of_the_dead_are_given_up_and_those_of_the_living_are_not(
    store: Store, tmp_path: Path
) -> None:
    """Of this owner's earlier life, of an owner before it; not of what is reserved or ahead."""
    hands = hands_on(tmp_path, store)
    limits = hands.limits()
    reserved = hands.custody.reserve(70)
    prefix = checkpoints_prefix(JOB)
    dead = [f"{prefix}/{CheckpointId(1, 900, 5)}/a", f"{prefix}/{CheckpointId(0, 1, 5)}/b"]
    living = [f"{prefix}/{reserved}/c", f"{prefix}/{CheckpointId(2, 1, 5)}/d"]
    for key in (*dead, *living):
        store.backend.begin(key, limits)
    hands.sweeper.run()
    assert sorted(key for key, _, _ in store.backend.open_uploads(prefix)) == sorted(living)


def test_half_written_small_files_go_too(directory: Store, tmp_path: Path) -> None:
    """A directory store's temporary files beside a dead owner's objects."""
    hands = hands_on(tmp_path, directory)
    root = Path(directory.url.removeprefix("file://"))
    folder = root / checkpoints_prefix(JOB) / str(CheckpointId(0, 1, 5)) / "deep"
    folder.mkdir(parents=True)
    (folder / ".spotwatch-tmp-1").write_bytes(b"half")
    hands.sweeper.run()
    assert not folder.parent.exists()
