"""A store that lies: whatever is damaged, a resume takes the newest good checkpoint and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.core.ids import CheckpointId
from spotwatchd.errors import Damaged, JobError, StoreDenied
from spotwatchd.store.base import Backend
from spotwatchd.store.jobs import list_unfinished, restore_to
from spotwatchd.store.layout import checkpoint_prefix, head_key, lease_key, manifest_key, spec_key
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import JOB, content, head_of, holds, save, steps

FILES = [*content(0), "MANIFEST.json"]
MakeHands = Callable[..., Hands]


@pytest.fixture
def hands(machines: MakeMachine) -> MakeHands:
    """Makes owners in this process."""

    def make(store: Store, name: str = "a", **settings: Any) -> Hands:
        machine = machines(store, name, **{"lease_seconds": 30.0, **settings})
        return Hands(machine, store.backend)

    return make


def committed(make: MakeHands, store: Store) -> CheckpointId:
    """A commits 10, 20 and 30, and gives the job back; returns the id of 30."""
    a = make(store, "a")
    a.take()
    newest = [a.commit(step) for step in (10, 20, 30)][-1]
    a.release()
    found = CheckpointId.find(newest)
    assert found is not None
    return found


def body_of(backend: Backend, key: str) -> bytes:
    """An object's bytes."""
    return b"".join(backend.read(key))


def overwrite_document(backend: Backend, key: str, body: bytes) -> None:
    """As somebody does who is not spotwatchd."""
    document = backend.read_document(key)
    backend.write_document(key, body, document.version if document else None)


def flip(where: str) -> Callable[[bytes], bytes]:
    """One bit of the first, a middle, or the last byte."""

    def damage(body: bytes) -> bytes:
        at = {"first": 0, "middle": len(body) // 2, "last": len(body) - 1}[where]
        return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

    return damage


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "first bit": flip("first"),
    "middle bit": flip("middle"),
    "last bit": flip("last"),
    "truncated": lambda body: body[:-1],
    "empty": lambda _: b"",
    "longer": lambda body: body + b"x",
    "missing": lambda _: None,
}


def harm(backend: Backend, key: str, damage: Callable[[bytes], bytes | None]) -> None:
    """Damage an object."""
    body = damage(body_of(backend, key))
    backend.delete([key])
    if body is not None:
        backend.put_bytes(key, body)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_files(directory: Store, hands: MakeHands, name: str, damage: str) -> None:
    """Each file of the newest checkpoint in each way: step 20 is used, step 30 quarantined."""
    newest = committed(hands, directory)
    key = f"{checkpoint_prefix(JOB, newest)}/{name}"
    if name == "MANIFEST.json" and damage in ("last bit", "longer", "truncated"):
        damage = "middle bit"  # its last byte is a line feed: what is left may still be JSON
    harm(directory.backend, key, DAMAGES[damage])
    falls_back_to_20(hands(directory, "b"), directory, newest)


def falls_back_to_20(b: Hands, store: Store, newest: CheckpointId) -> None:
    """B resumes from 20, says so, and head quarantines ``newest`` with a reason."""
    taken = b.take()
    assert taken.restored is not None
    assert taken.restored.step == 20
    assert holds(b.machine.checkpoints, 20)
    head = head_of(store.backend)
    assert [entry.id for entry in head.quarantine] == [newest]
    assert head.quarantine[0].reason
    assert steps(store.backend) == [10, 20]
    assert "step 30 does not verify" in b.heard.text
    assert "step 20 restored" in b.heard.text
    leftovers = [path.name for path in b.machine.checkpoints.glob(".restoring-*")]
    assert leftovers == []
    b.commit(25)
    assert steps(store.backend) == [10, 20, 25]


def test_damaged_on_s3(s3: Store, hands: MakeHands) -> None:
    """The same on the other store, once."""
    newest = committed(hands, s3)
    key = f"{checkpoint_prefix(JOB, newest)}/model.pt"
    harm(s3.backend, key, DAMAGES["middle bit"])
    falls_back_to_20(hands(s3, "b"), s3, newest)


def rewrite_manifest(store: Store, newest: CheckpointId, change: Callable[[Any], Any]) -> None:
    """Change the manifest as JSON."""
    key = manifest_key(JOB, newest)
    document = json.loads(body_of(store.backend, key))
    body = json.dumps(change(document)).encode()
    harm(store.backend, key, lambda _: body)


@pytest.mark.parametrize(
    "path", ["../../escaped", "/var/escaped", "a/../../escaped", "..", "", "model.pt/x"]
)
def test_a_manifest_cannot_write_elsewhere(
    directory: Store, hands: MakeHands, path: str, tmp_path: Path
) -> None:
    """Paths that leave the checkpoint's directory are damage like any other."""
    newest = committed(hands, directory)

    def change(document: Any) -> Any:
        document["files"].append({"path": path, "size": 1, "crc64nvme": "0" * 16})
        return document

    rewrite_manifest(directory, newest, change)
    falls_back_to_20(hands(directory, "b"), directory, newest)
    assert list(tmp_path.rglob("*escaped*")) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 7), ("size", -1), ("crc64nvme", "0" * 16), ("crc64nvme", "zz"), ("path", "other")],
)
def test_a_manifest_that_disagrees_with_the_bytes(
    directory: Store, hands: MakeHands, field: str, value: object
) -> None:
    """Wrong sizes, checksums and names in a manifest that is itself readable."""
    newest = committed(hands, directory)

    def change(document: Any) -> Any:
        document["files"][0][field] = value
        return document

    rewrite_manifest(directory, newest, change)
    falls_back_to_20(hands(directory, "b"), directory, newest)


def test_extra_objects_do_no_harm(directory: Store, hands: MakeHands) -> None:
    """What the manifest does not name is not restored."""
    newest = committed(hands, directory)
    directory.backend.put_bytes(f"{checkpoint_prefix(JOB, newest)}/extra.pt", b"x")
    b = hands(directory, "b")
    taken = b.take()
    assert taken.restored is not None
    assert taken.restored.step == 30
    assert holds(b.machine.checkpoints, 30)


@pytest.mark.parametrize("body", [b"", b"\0" * 100, b"{}", b'{"version": 1}', b"null"])
def test_a_garbage_head_is_rebuilt(directory: Store, hands: MakeHands, body: bytes) -> None:
    """From manifests in the order of the commits, with an alarm; nothing is lost."""
    a = hands(directory, "a")
    a.take()
    for step in (10, 40):
        a.commit(step)
    a.release()
    b = hands(directory, "b")
    harm(
        directory.backend, f"{checkpoint_prefix(JOB, newest_id(directory))}/model.pt", flip("last")
    )
    b.take()
    b.commit(20)
    b.release()
    overwrite_document(directory.backend, head_key(JOB), body)
    c = hands(directory, "c")
    taken = c.take()
    assert taken.restored is not None
    assert taken.restored.step == 20
    assert taken.generation == 3
    assert "rebuilt" in c.heard.text
    assert steps(directory.backend) == [10, 40, 20]


def newest_id(store: Store) -> CheckpointId:
    """Of the newest committed checkpoint."""
    return head_of(store.backend).checkpoints[-1].id


def test_a_head_that_was_deleted_is_rebuilt(directory: Store, hands: MakeHands) -> None:
    """An empty history is not believed while manifests say otherwise."""
    committed(hands, directory)
    directory.backend.delete([head_key(JOB)])
    b = hands(directory, "b")
    taken = b.take()
    assert taken.restored is not None
    assert taken.restored.step == 30
    assert "rebuilt" in b.heard.text


def test_a_head_of_a_newer_version_is_left_alone(directory: Store, hands: MakeHands) -> None:
    """It is refused by name; it is neither rebuilt nor overwritten."""
    committed(hands, directory)
    newer = json.dumps({"version": 2, "shape": "different"}).encode()
    overwrite_document(directory.backend, head_key(JOB), newer)
    with pytest.raises(StoreDenied, match="version 2"):
        hands(directory, "b").take()
    document = directory.backend.read_document(head_key(JOB))
    assert document is not None
    assert document.body == newer


def test_an_owner_mends_a_head_that_is_damaged_under_it(directory: Store, hands: MakeHands) -> None:
    """Its lease still holds, so what it last knew of head is the truth."""
    a = hands(directory, "a")
    a.take()
    a.commit(10)
    overwrite_document(directory.backend, head_key(JOB), b"garbage")
    a.commit(20)
    assert steps(directory.backend) == [10, 20]
    assert a.heard.alarms


def test_a_garbage_lease_is_waited_for_and_replaced(directory: Store, hands: MakeHands) -> None:
    """It may be a live owner's: the taker sees the same bytes for a full duration first."""
    a = hands(directory, "a")
    a.take()
    a.commit(10)
    overwrite_document(directory.backend, lease_key(JOB), b"garbage")
    b = hands(directory, "b", lease_seconds=0.6)
    waits: list[float] = []
    taken = b.custody.take(b.limits(), lambda waiting: waits.append(waiting.seconds))
    assert waits[0] == pytest.approx(0.6, abs=0.1)
    assert taken.generation == 2
    assert b.heard.alarms


def test_an_owner_replaces_a_lease_that_is_damaged_under_it(
    directory: Store, hands: MakeHands
) -> None:
    """Nobody can have taken it: the renewal writes over the garbage."""
    a = hands(directory, "a")
    a.take()
    overwrite_document(directory.backend, lease_key(JOB), b"garbage")
    a.custody.leasing.renew()
    assert a.custody.leasing.valid()
    a.commit(10)
    assert steps(directory.backend) == [10]


def test_a_garbage_spec_is_written_anew(directory: Store, hands: MakeHands) -> None:
    """Its job is reported and left out of the list until somebody takes it."""
    committed(hands, directory)
    overwrite_document(directory.backend, spec_key(JOB), b"garbage")
    problems: list[str] = []
    assert list_unfinished(directory.backend, lambda name, _: problems.append(name)) == []
    assert problems == [JOB]
    hands(directory, "b").take()
    assert [job.name for job in list_unfinished(directory.backend)] == [JOB]


def test_when_nothing_verifies_the_job_starts_anew_and_says_so(
    directory: Store, hands: MakeHands
) -> None:
    """Every checkpoint is damaged: an alarm, step 0, and the bytes are kept."""
    newest = committed(hands, directory)
    for entry in head_of(directory.backend).checkpoints:
        harm(directory.backend, f"{checkpoint_prefix(JOB, entry.id)}/model.pt", flip("first"))
    b = hands(directory, "b", grace_seconds=0.0)
    assert b.take().restored is None
    assert "no committed checkpoint verifies" in b.heard.text
    b.sweeper.run()
    assert list(directory.backend.objects(checkpoint_prefix(JOB, newest)))


def test_a_local_copy_saves_the_download(directory: Store, hands: MakeHands) -> None:
    """What is on disk byte for byte is used, even when the store's copy is damaged."""
    newest = committed(hands, directory)
    harm(directory.backend, f"{checkpoint_prefix(JOB, newest)}/model.pt", flip("first"))
    b = hands(directory, "b")
    save(b.machine.checkpoints, 30)
    taken = b.take()
    assert taken.restored is not None
    assert taken.restored.step == 30
    assert "found on this disk" in b.heard.text


def test_a_local_copy_that_differs_is_replaced(directory: Store, hands: MakeHands) -> None:
    """Same name, same size, other bytes: the store's copy takes its place."""
    committed(hands, directory)
    b = hands(directory, "b")
    wrong = {name: bytes(len(body)) for name, body in content(30).items()}
    save(b.machine.checkpoints, 30, wrong)
    taken = b.take()
    assert taken.restored is not None
    assert holds(b.machine.checkpoints, 30)


def test_a_checkpoint_that_crashes_the_job_is_skipped(directory: Store, hands: MakeHands) -> None:
    """After three crashes without a new step the one before it is used, with an alarm."""
    a = hands(directory, "a")
    a.take()
    a.commit(10)
    a.commit(20)
    a.release(crashes=3)
    b = hands(directory, "b")
    taken = b.take()
    assert taken.restored is not None
    assert (taken.restored.step, taken.crashes) == (10, 3)
    assert "crashed from it 3 times" in b.heard.text


def test_restore_to_says_what_there_is(directory: Store, hands: MakeHands, tmp_path: Path) -> None:
    """An unknown step, and a newest one that does not verify."""
    newest = committed(hands, directory)
    with pytest.raises(JobError) as error:
        restore_to(directory.backend, JOB, tmp_path / "to", 31)
    assert "10, 20, 30" in error.value.remedy
    harm(directory.backend, f"{checkpoint_prefix(JOB, newest)}/model.pt", flip("first"))
    assert restore_to(directory.backend, JOB, tmp_path / "to").step == 20
    with pytest.raises(Damaged):
        restore_to(directory.backend, JOB, tmp_path / "to", 30)
