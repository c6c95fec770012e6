"""What every store does, whichever kind it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotwatchd.core.ids import CheckpointId
from spotwatchd.errors import Conflict, Damaged
from spotwatchd.store.base import Backend
from spotwatchd.store.checkpoints import Cargo, survey, upload
from spotwatchd.store.checksum import crc64nvme_of_chunks
from spotwatchd.store.patience import Patience
from tests.shell.store.conftest import Local, send

MakeLocal = Callable[[int], Local]


def test_a_document_that_was_never_written_is_none(store: Backend) -> None:
    assert store.read_document("job/lease.json") is None


def test_a_document_is_read_as_written(store: Backend) -> None:
    """The version returned by a write is the version that a read finds."""
    version = store.write_document("job/lease.json", b'{"n": 1}', None)
    found = store.read_document("job/lease.json")
    assert found is not None
    assert (found.body, found.version) == (b'{"n": 1}', version)


def test_each_version_replaces_the_one_before(store: Backend) -> None:
    """Twelve versions: more than any store keeps."""
    version = None
    for number in range(12):
        version = store.write_document("job/head.json", f"{number}".encode(), version)
    found = store.read_document("job/head.json")
    assert found is not None
    assert (found.body, found.version) == (b"11", version)


def test_a_second_first_version_is_refused(store: Backend) -> None:
    store.write_document("job/lease.json", b"mine", None)
    with pytest.raises(Conflict, match="another writer came first"):
        store.write_document("job/lease.json", b"yours", None)
    found = store.read_document("job/lease.json")
    assert found is not None
    assert found.body == b"mine"


def test_a_write_on_a_stale_version_is_refused_and_changes_nothing(store: Backend) -> None:
    stale = store.write_document("job/lease.json", b"1", None)
    store.write_document("job/lease.json", b"2", stale)
    with pytest.raises(Conflict) as refused:
        store.write_document("job/lease.json", b"3", stale)
    assert "job/lease.json" in refused.value.where
    found = store.read_document("job/lease.json")
    assert found is not None
    assert found.body == b"2"


def test_a_write_on_a_version_of_a_document_that_is_gone_is_refused(store: Backend) -> None:
    version = store.write_document("job/lease.json", b"1", None)
    store.delete(["job/lease.json"])
    with pytest.raises(Conflict):
        store.write_document("job/lease.json", b"2", version)
    assert store.read_document("job/lease.json") is None


@pytest.mark.parametrize("size", [0, 1, 1_048_576, 8_388_608, 8_388_609, 20_000_000])
def test_a_file_is_stored_whole(store: Backend, local: MakeLocal, size: int) -> None:
    """Empty, one byte, a chunk, the largest single request, one byte more, several parts."""
    file = local(size)
    shipped = send(store, "job/checkpoints/a/model.pt", file)
    assert (shipped.size, shipped.crc64nvme) == (size, file.crc)
    info = store.info("job/checkpoints/a/model.pt")
    assert info is not None
    assert info.size == size
    assert info.crc64nvme in {None, file.crc}
    assert crc64nvme_of_chunks(store.read("job/checkpoints/a/model.pt")) == (size, file.crc)


def test_putting_again_is_no_error(store: Backend, local: MakeLocal) -> None:
    send(store, "job/checkpoints/a/x", local(10))
    send(store, "job/checkpoints/a/x", local(20))
    info = store.info("job/checkpoints/a/x")
    assert info is not None
    assert info.size == 20


def changed(file: Local, how: str) -> None:
    if how == "gone":
        file.path.unlink()
    elif how == "shorter":
        file.path.write_bytes(file.path.read_bytes()[:-1])
    else:
        file.path.write_bytes(file.path.read_bytes() + b"x")


@pytest.mark.parametrize("size", [1000, 9_000_000])
@pytest.mark.parametrize("how", ["gone", "shorter", "longer"])
def test_a_file_that_changed_is_refused(
    store: Backend, local: MakeLocal, size: int, how: str
) -> None:
    """The sealed size is what must arrive; nothing is left in the store."""
    file = local(size)
    changed(file, how)
    with pytest.raises(Damaged) as refused:
        send(store, "job/checkpoints/a/x", file)
    assert str(file.path) in refused.value.where
    assert refused.value.remedy
    assert store.info("job/checkpoints/a/x") is None
    assert list(store.objects("")) == []
    assert list(store.children("")) == []


def test_a_file_that_was_touched_while_it_was_stored_is_refused(
    store: Backend, local: MakeLocal
) -> None:
    """Its time tells: nobody writes to a sealed checkpoint."""
    file = local(1000)
    form, files = survey(file.path.parent, file.path.name)
    os.utime(file.path, ns=(1, files[0].mtime_ns + 1))
    assert form == "file"
    with pytest.raises(Damaged, match="changed while it was stored"):
        upload(store, Cargo("job", CheckpointId(1, 1, 1), files), Patience())


def test_small_objects(store: Backend) -> None:
    """put_bytes overwrites unless told not to."""
    store.put_bytes("job/checkpoints/a/MANIFEST.json", b"1")
    store.put_bytes("job/checkpoints/a/MANIFEST.json", b"22")
    with pytest.raises(Conflict) as refused:
        store.put_bytes("job/checkpoints/a/MANIFEST.json", b"333", only_if_absent=True)
    assert "MANIFEST.json" in refused.value.where
    assert b"".join(store.read("job/checkpoints/a/MANIFEST.json")) == b"22"


def test_a_small_object_that_is_absent_is_written(store: Backend) -> None:
    store.put_bytes("job/a/MANIFEST.json", b"1", only_if_absent=True)
    assert b"".join(store.read("job/a/MANIFEST.json")) == b"1"


def test_an_absent_object(store: Backend) -> None:
    assert store.info("job/none") is None
    with pytest.raises(KeyError, match="job/none"):
        list(store.read("job/none"))


def test_a_folder_is_no_object(store: Backend) -> None:
    store.put_bytes("job/a/x", b"1")
    assert store.info("job/a") is None
    with pytest.raises(KeyError):
        list(store.read("job/a"))


def test_objects_lists_all_below_a_folder(store: Backend) -> None:
    """Documents once, under their key; hidden files of users; no neighbour's."""
    keys = {"job/checkpoints/a/.metadata", "job/checkpoints/a/d e/ü+&.pt", "job/checkpoints/b/x"}
    for key in keys:
        store.put_bytes(key, b"12")
    store.put_bytes("job2/checkpoints/a/x", b"1")
    first = store.write_document("job/lease.json", b"1", None)
    store.write_document("job/lease.json", b"123", first)
    assert {o.key: o.size for o in store.objects("job")} == {
        **dict.fromkeys(keys, 2),
        "job/lease.json": 3,
    }
    assert {o.key for o in store.objects("job/checkpoints/b/")} == {"job/checkpoints/b/x"}
    assert list(store.objects("nobody")) == []


def test_a_file_named_like_a_version_is_a_file(store: Backend) -> None:
    """A checkpoint may contain index.json.000000001; it is listed and read like any other."""
    store.put_bytes("job/checkpoints/a/index.json.000000001", b"1")
    assert [o.key for o in store.objects("job")] == ["job/checkpoints/a/index.json.000000001"]


def test_children_are_the_folders_one_level_below(store: Backend) -> None:
    store.write_document("job/lease.json", b"1", None)
    for key in ("job/checkpoints/a/x", "job/checkpoints/a/y", "job/checkpoints/b/x", "job2/z/x"):
        store.put_bytes(key, b"1")
    assert sorted(store.children("")) == ["job", "job2"]
    assert sorted(store.children("job")) == ["checkpoints"]
    assert sorted(store.children("job/checkpoints/")) == ["a", "b"]
    assert list(store.children("nobody")) == []


def test_more_objects_than_one_answer_can_list(store: Backend) -> None:
    """1,100 objects: S3 lists and deletes 1,000 at a time."""
    keys = {f"job/{number:04d}/x" for number in range(1100)}
    for key in keys:
        store.put_bytes(key, b"")
    assert {o.key for o in store.objects("job")} == keys
    assert len(list(store.children("job"))) == 1100
    store.delete(sorted(keys))
    assert list(store.objects("job")) == []


def test_deleting(store: Backend) -> None:
    """Absent keys are no error, documents go whole, and nothing is left of the job."""
    version = None
    for body in (b"1", b"2", b"3"):
        version = store.write_document("job/head.json", body, version)
    store.put_bytes("job/checkpoints/a/x", b"1")
    store.put_bytes("job/checkpoints/a/y", b"1")
    store.delete(["job/checkpoints/a/x", "job/none", "none/none"])
    assert {o.key for o in store.objects("")} == {"job/head.json", "job/checkpoints/a/y"}
    store.delete(["job/head.json", "job/checkpoints/a/y"])
    assert store.read_document("job/head.json") is None
    assert list(store.objects("")) == []
    store.delete([])


BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b", ".spotwatch-store"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_keys_that_could_leave_the_store_are_refused(store: Backend, key: str) -> None:
    for call in (store.info, lambda k: list(store.read(k)), lambda k: store.put_bytes(k, b"")):
        with pytest.raises(ValueError, match="not a store key"):
            call(key)
    with pytest.raises(ValueError, match="not a store key"):
        store.delete(["fine", key])


@pytest.mark.parametrize("key", ["job/checkpoints/x.json", "job/lease", "/lease.json"])
def test_keys_that_are_no_documents_are_refused(store: Backend, key: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        store.read_document(key)
    with pytest.raises(ValueError, match="not a"):
        store.write_document(key, b"", None)


def test_a_probe_leaves_nothing_behind(store: Backend) -> None:
    store.probe()
    store.probe()
    assert list(store.objects("")) == []


@pytest.fixture
def huge(tmp_path: Path) -> Iterator[Local]:
    """17 MiB of nothing: more than any document may have."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(17 << 20)
    yield Local(path, 17 << 20, 0)
    path.unlink()


def test_a_document_that_would_fill_the_memory_is_refused(store: Backend, huge: Local) -> None:
    """Whoever may write to the bucket must not be able to stop a daemon with it."""
    store.write_document("job/head.json", huge.path.read_bytes(), None)
    with pytest.raises(Damaged, match="17825792 bytes"):
        store.read_document("job/head.json")
