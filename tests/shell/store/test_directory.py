"""What is particular to directories: the marker, numbered versions, the disk's refusals."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotwatchd.errors import Conflict, StoreDenied
from spotwatchd.store import files, versions
from spotwatchd.store.base import Backend
from spotwatchd.store.directory import DirectoryBackend
from spotwatchd.store.init import init_store
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import OutOfTime
from tests.shell.store.conftest import Local, send

MakeLocal = Callable[[int], Local]


def every_call(store: Backend, local: Local) -> list[Callable[[], object]]:
    return [
        lambda: store.read_document("job/lease.json"),
        lambda: store.write_document("job/lease.json", b"1", None),
        lambda: send(store, "job/a/x", local, 5),
        lambda: store.put_bytes("job/a/y", b"1"),
        lambda: store.info("job/a/x"),
        lambda: list(store.read("job/a/x")),
        lambda: list(store.objects("")),
        lambda: list(store.children("")),
        lambda: store.delete(["job/a/x"]),
        store.probe,
    ]


def test_without_its_marker_a_directory_is_refused(tmp_path: Path, local: MakeLocal) -> None:
    """Every call says so and how to mend it, and nothing is written: it may be the wrong disk."""
    (tmp_path / "store").mkdir()
    store = open_backend(f"file://{tmp_path}/store")
    for call in every_call(store, local(10)):
        with pytest.raises(StoreDenied, match="not mounted") as refused:
            call()
        assert f"spotwatch store init file://{tmp_path}/store" in refused.value.remedy
    assert list((tmp_path / "store").iterdir()) == []


def test_a_disk_that_is_unmounted_while_the_daemon_runs(directory: DirectoryBackend) -> None:
    """An empty directory in place of the store is not an empty store."""
    directory.write_document("job/head.json", b"1", None)
    directory.root.rename(directory.root.with_name("elsewhere"))
    directory.root.mkdir()
    with pytest.raises(StoreDenied, match="not mounted"):
        directory.read_document("job/head.json")
    directory.root.rmdir()
    with pytest.raises(StoreDenied, match="does not exist"):
        directory.read_document("job/head.json")


def test_a_store_that_is_a_file(tmp_path: Path, local: MakeLocal) -> None:
    (tmp_path / "store").write_bytes(b"")
    for call in every_call(open_backend(f"file://{tmp_path}/store"), local(10)):
        with pytest.raises(StoreDenied, match="not a directory") as refused:
            call()
        assert str(tmp_path / "store") in refused.value.remedy


def test_a_file_where_a_folder_should_be(directory: DirectoryBackend, local: MakeLocal) -> None:
    directory.put_bytes("job", b"1")
    file = local(10)
    with pytest.raises(StoreDenied, match="not a directory"):
        send(directory, "job/a/x", file)


def test_documents_are_plain_numbered_files(directory: DirectoryBackend) -> None:
    """The last four versions stay, for people to look at."""
    version = None
    for number in range(10):
        version = directory.write_document("job/lease.json", b"%d" % number, version)
    names = sorted(path.name for path in (directory.root / "job").iterdir())
    assert names == [f"lease.json.{number:09d}" for number in (7, 8, 9, 10)]
    assert (directory.root / "job" / names[-1]).read_bytes() == b"9"


def test_a_writer_that_slept_through_pruning_loses(directory: DirectoryBackend) -> None:
    """It creates a name that was pruned; the higher numbers tell it that it lost."""
    version = None
    for number in range(10):
        version = directory.write_document("job/lease.json", b"%d" % number, version)
    document = directory.root / "job/lease.json"
    slept = directory.root / "job/slept"
    slept.write_bytes(b"stale")
    with pytest.raises(versions.Superseded):
        versions._publish(document, slept, 3)
    assert versions.numbers(document) == [7, 8, 9, 10]
    found = directory.read_document("job/lease.json")
    assert found is not None
    assert found.body == b"9"


def test_a_link_that_was_made_but_reported_as_failed(tmp_path: Path) -> None:
    """NFS repeats requests: 'exists already' about our own file is a success."""
    (tmp_path / "mine").write_bytes(b"1")
    (tmp_path / "other").write_bytes(b"1")
    os.link(tmp_path / "mine", tmp_path / "name")
    assert files.link_new(tmp_path / "mine", tmp_path / "name")
    assert not files.link_new(tmp_path / "other", tmp_path / "name")


def test_temporary_files_are_never_seen_and_old_ones_go(directory: DirectoryBackend) -> None:
    """What a killed writer left is hidden at once, and removed by a writer a day later."""
    version = directory.write_document("job/lease.json", b"1", None)
    fresh = directory.root / "job" / f"{files.TEMPORARY_PREFIX}fresh"
    stale = directory.root / "job" / f"{files.TEMPORARY_PREFIX}stale"
    for path in (fresh, stale):
        path.write_bytes(b"half")
    day_ago = time.time() - files.STALE_SECONDS - 60
    os.utime(stale, (day_ago, day_ago))
    assert [o.key for o in directory.objects("")] == ["job/lease.json"]
    directory.write_document("job/lease.json", b"2", version)
    assert fresh.exists()
    assert not stale.exists()


def test_an_empty_folder_is_no_child(directory: DirectoryBackend) -> None:
    (directory.root / "job/checkpoints/a").mkdir(parents=True)
    assert list(directory.children("")) == []


def test_a_put_that_takes_too_long_gives_up(directory: DirectoryBackend, local: MakeLocal) -> None:
    file = local(10_000_000)
    with pytest.raises(OutOfTime):
        send(directory, "job/a/x", file, seconds=0.0)
    assert list(directory.objects("")) == []


def test_a_checkpoint_may_be_large_and_is_copied_with_a_users_rights(
    directory: DirectoryBackend, local: MakeLocal
) -> None:
    """Files get the permissions of the umask, so that whoever may, can copy them by hand."""
    file = local(100)
    old = os.umask(0o027)
    try:
        send(directory, "job/a/x", file)
    finally:
        os.umask(old)
    assert (directory.root / "job/a/x").stat().st_mode & 0o777 == 0o640
    assert (directory.root / "job/a").stat().st_mode & 0o777 == 0o750


@contextlib.contextmanager
def tmpfs(path: Path, options: str) -> Iterator[None]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.root
def test_a_full_disk(tmp_path: Path, local: MakeLocal) -> None:
    """Said as such, with nothing half written, and usable again once there is space."""
    file = local(3_000_000)
    with tmpfs(tmp_path / "store", "size=4m"):
        init_store(f"file://{tmp_path}/store", any_disk=True)
        store = open_backend(f"file://{tmp_path}/store")
        send(store, "job/a/x", file, 5)
        with pytest.raises(StoreDenied, match="no space left") as refused:
            send(store, "job/a/y", file, 5)
        assert "is full" in refused.value.remedy
        assert [o.key for o in store.objects("")] == ["job/a/x"]
        store.delete(["job/a/x"])
        send(store, "job/a/y", file, 5)


@pytest.mark.root
def test_a_read_only_disk(tmp_path: Path) -> None:
    """Reading goes on; writing is refused with the remedy."""
    with tmpfs(tmp_path / "store", "size=4m"):
        init_store(f"file://{tmp_path}/store", any_disk=True)
        store = open_backend(f"file://{tmp_path}/store")
        version = store.write_document("job/lease.json", b"1", None)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "store")], check=True)
        assert store.read_document("job/lease.json") is not None
        with pytest.raises(StoreDenied, match="read-only file system") as refused:
            store.write_document("job/lease.json", b"2", version)
        assert "read-write" in refused.value.remedy


def as_nobody(call: Callable[[], object]) -> str:
    """Runs in a child process of uid 65534; returns what it raised, as text."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            call()
            said = "nothing"
        except BaseException as error:  # noqa: BLE001 - a child must not return into pytest
            said = f"{type(error).__name__} {error}"
        os.write(writable, said.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.mark.root
def test_a_directory_without_permission() -> None:
    """The uid that needs the right is named."""
    with tempfile.TemporaryDirectory(prefix="spotwatch-store-") as name:
        Path(name).chmod(0o755)
        init_store(f"file://{name}")
        store = open_backend(f"file://{name}")
        store.write_document("job/lease.json", b"1", None)
        said = as_nobody(lambda: store.put_bytes("other/a/x", b"1"))
        assert said.startswith("StoreDenied cannot put: permission denied")
        assert f"let uid 65534 read, write and search {name}" in said
        said = as_nobody(lambda: store.write_document("job/lease.json", b"1", "1"))
        assert said.startswith("StoreDenied cannot write: permission denied")
        assert as_nobody(lambda: store.read_document("job/lease.json")) == "nothing"


def test_the_marker_does_not_disturb_the_first_write(directory: DirectoryBackend) -> None:
    with pytest.raises(Conflict):
        directory.write_document("job/lease.json", b"1", "12")
