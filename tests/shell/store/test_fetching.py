"""Ranges over a network that breaks: each is tried again alone, and wrong bytes never count."""

from __future__ import annotations

import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import Manifest, StoredFile
from spotwatchd.errors import Damaged, StoreDenied, StoreUnavailable
from spotwatchd.store import ranges
from spotwatchd.store.base import Backend
from spotwatchd.store.checksum import crc64nvme
from spotwatchd.store.fetching import Fetching, Wanted
from spotwatchd.store.partial import Partial
from spotwatchd.store.patience import Cancelled, Patience
from tests.servers.fixtures import BUCKET, admin_client
from tests.servers.proxy import Fault, Proxy
from tests.servers.seaweed import Seaweed

ID = CheckpointId(1, 1, 10)
LARGE = ranges.RANGE + (1 << 20) + 77


def bodies() -> dict[str, bytes]:
    """One file of two ranges, two small ones in a folder, an empty one."""
    whole = random.Random(1).randbytes(LARGE)
    return {"large": whole, "a/one": whole[:70_000], "a/two": whole[5:99_000], "empty": b""}


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    """Made once."""
    return bodies()


def manifest_of(job: str, content: dict[str, bytes]) -> Manifest:
    """As a commit writes it."""
    entries = [StoredFile(name, len(body), crc64nvme(body)) for name, body in content.items()]
    return Manifest(job, "run", ID, "periodic", "", tuple(entries))


def stored(backend: Backend, content: dict[str, bytes]) -> Manifest:
    """Puts the files there, in a job of their own."""
    manifest = manifest_of(uuid.uuid4().hex, content)
    for name, body in content.items():
        backend.put_bytes(f"{manifest.job}/checkpoints/{ID}/{name}", body)
    return manifest


@pytest.fixture(scope="module")
def s3_prefix() -> str:
    """One for all tests here."""
    return f"{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def there(seaweed: Seaweed, s3_prefix: str, content: dict[str, bytes]) -> Manifest:
    """In the S3 store, put there without the proxy, once."""
    client, folder = admin_client(seaweed), s3_prefix.removeprefix(f"{BUCKET}/")
    for name, body in content.items():
        key = f"{folder}/job/checkpoints/{ID}/{name}"
        client.put_object(Bucket=BUCKET, Key=key, Body=body)
    return manifest_of("job", content)


Fetch = Callable[..., int]


@pytest.fixture
def fetch(tmp_path: Path) -> Iterator[Fetch]:
    """Fetches a manifest's files into ``to``; returns how many bytes came."""
    opened: list[Partial] = []

    def run(
        backend: Backend,
        manifest: Manifest,
        limits: Patience | None = None,
        first: Callable[[], None] = lambda: None,
    ) -> int:
        partial = Partial(tmp_path / "to", manifest, "boot")
        opened.append(partial)
        wanted = [
            Wanted(number, entry, f"{manifest.job}/checkpoints/{ID}/{entry.path}")
            for number, entry in enumerate(manifest.files)
        ]
        fetching = Fetching(backend, partial, limits or Patience(), 4)
        try:
            fetching.run(wanted, first)
        finally:
            partial.close()
        return fetching.fetched

    yield run
    for partial in opened:
        partial.remove()


def arrived(tmp_path: Path, content: dict[str, bytes]) -> bool:
    """Whether every file is there, byte for byte."""
    files = tmp_path / "to" / f".restoring-{ID}" / "files"
    return all((files / name).read_bytes() == body for name, body in content.items())


def test_everything_arrives(
    store: Backend, fetch: Fetch, content: dict[str, bytes], tmp_path: Path
) -> None:
    """On both stores; the second time there is nothing to fetch."""
    manifest = stored(store, content)
    size = sum(map(len, content.values()))
    assert fetch(store, manifest) == size
    assert arrived(tmp_path, content)
    assert fetch(store, manifest) == 0


FAULTS = {
    "reset": Fault("reset", "GET", "large", times=2),
    "drop": Fault("drop", "GET", "large", times=2),
    "stall": Fault("stall", "GET", "large"),
    "half an answer": Fault("cut", "GET", "large", times=2),
    "half of a small answer": Fault("cut", "GET", "a/one"),
    "500": Fault("answer", "GET", "large", times=2),
    "503": Fault("answer", "GET", "", times=4, status=503, code="SlowDown"),
    "late": Fault("delay", "GET", "a/two", seconds=0.3),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_range_that_breaks_off_is_tried_again(
    there: Manifest,
    proxied: Backend,
    proxy: Proxy,
    fetch: Fetch,
    content: dict[str, bytes],
    tmp_path: Path,
    name: str,
) -> None:
    """Whatever went wrong on the way, the bytes are right and the others were not repeated."""
    fault = FAULTS[name]
    proxy.add(Fault(fault.kind, "GET", fault.path, fault.times, 0, fault.seconds, fault.status))
    fetch(proxied, there)
    assert arrived(tmp_path, content)
    assert proxy.count("GET", "a/one") <= 1 + (fault.path != "large") * max(1, fault.times)


def test_a_range_goes_on_where_it_broke_off(
    directory: Backend, fetch: Fetch, content: dict[str, bytes], tmp_path: Path
) -> None:
    """The second request asks for what is missing only."""
    manifest = stored(directory, content)
    asked: list[tuple[int, int]] = []

    class Breaking:
        """The store over a line that breaks at 5 MiB."""

        url = directory.url

        @staticmethod
        def fetch(
            key: str, offset: int, size: int, sink: Callable[[memoryview], None], limits: Patience
        ) -> None:
            asked.append((offset, size))

            def broken(view: memoryview) -> None:
                if (offset, size) == (0, ranges.RANGE) and view.nbytes + done[0] > 5 << 20:
                    raise StoreUnavailable("the line broke")
                done[0] += view.nbytes
                sink(view)

            done = [0]
            directory.fetch(key, offset, size, broken, limits)

    fetch(Breaking, manifest)
    assert (5 << 20, ranges.RANGE - (5 << 20)) in asked
    assert len(asked) == 5
    assert arrived(tmp_path, content)


def test_a_store_that_is_away_is_said_and_nothing_is_lost(
    there: Manifest, proxied: Backend, proxy: Proxy, fetch: Fetch
) -> None:
    """After a few tries the caller hears of it; what had arrived is not fetched again."""
    proxy.add(Fault("reset", "GET", "large", times=-1))
    with pytest.raises(StoreUnavailable):
        fetch(proxied, there)
    proxy.clear()
    assert fetch(proxied, there) <= LARGE
    assert proxy.count("GET", "a/") == 0


def test_wrong_bytes_are_damage_and_are_forgotten(
    directory: Backend, fetch: Fetch, content: dict[str, bytes], tmp_path: Path
) -> None:
    """One bit in the second range; once mended, that file is fetched again."""
    manifest = stored(directory, content)
    key = f"{manifest.job}/checkpoints/{ID}/large"
    body = bytearray(content["large"])
    body[-1] ^= 1
    directory.put_bytes(key, bytes(body))
    with pytest.raises(Damaged, match="the manifest says"):
        fetch(directory, manifest)
    directory.put_bytes(key, content["large"])
    assert fetch(directory, manifest) >= LARGE
    assert arrived(tmp_path, content)


@pytest.mark.parametrize("kind", ["missing", "short"])
def test_what_is_not_there_is_damage(store: Backend, fetch: Fetch, kind: str) -> None:
    """No object, and one that ends too early: no number of tries helps."""
    content = {"a/one": b"one" * 30_000}
    manifest = stored(store, content)
    key = f"{manifest.job}/checkpoints/{ID}/a/one"
    store.delete([key])
    if kind == "short":
        store.put_bytes(key, content["a/one"][:-1])
    with pytest.raises(Damaged, match=kind):
        fetch(store, manifest)


def test_a_denied_read_ends_it_at_once(
    there: Manifest, proxied: Backend, proxy: Proxy, fetch: Fetch
) -> None:
    """403 is an answer: a person has to change something."""
    proxy.add(Fault("answer", "GET", "large", -1, status=403, code="AccessDenied"))
    with pytest.raises(StoreDenied):
        fetch(proxied, there)
    assert proxy.count("GET", "large") <= 2


def test_cancelling_ends_it(there: Manifest, proxied: Backend, proxy: Proxy, fetch: Fetch) -> None:
    """While the store stalls, too."""
    cancelled = threading.Event()
    proxy.add(Fault("stall", "GET", "large", times=-1))

    def cancel_when_stalled() -> None:
        while not proxy.count("GET", "large"):
            cancelled.wait(0.01)
        cancelled.set()

    with pytest.raises(Cancelled):
        fetch(proxied, there, Patience(cancelled=cancelled), cancel_when_stalled)


class ReadOnly(Partial):
    """On a disk that takes no more bytes."""

    def open_file(self, number: int, entry: StoredFile) -> int:
        """As long as it will be, and not to be written."""
        os.close(super().open_file(number, entry))
        return os.open(self.files / entry.path, os.O_RDONLY)


def test_trouble_of_the_local_disk_is_not_the_stores(
    store: Backend, content: dict[str, bytes], tmp_path: Path
) -> None:
    """It is raised as it is, at once: trying again would not help."""
    manifest = stored(store, {"a/one": content["a/one"]})
    partial = ReadOnly(tmp_path / "to", manifest, "boot")
    wanted = Wanted(0, manifest.files[0], f"{manifest.job}/checkpoints/{ID}/a/one")
    with pytest.raises(OSError, match="Bad file descriptor"):
        Fetching(store, partial, Patience(), 4).run([wanted], lambda: None)
    partial.close()


def test_what_is_done_beside_it_can_end_it(
    directory: Backend, fetch: Fetch, content: dict[str, bytes]
) -> None:
    """The look at the store's listing finds what fetching would find much later."""

    def first() -> None:
        raise Damaged("a file is missing")

    with pytest.raises(Damaged, match="missing"):
        fetch(directory, stored(directory, content), first=first)


@pytest.mark.parametrize("size", [1, ranges.RANGE, ranges.RANGE + 1, 3 * ranges.RANGE - 5])
def test_the_sum_of_ranges_is_that_of_the_whole(size: int) -> None:
    """In whatever order they come."""
    body = bytes(range(256)) * (size // 256 + 1)
    parts = list(ranges.offsets(size))
    random.Random(size).shuffle(parts)
    sums = ranges.Sums(size)
    found = [sums.add(at, crc64nvme(body[at : at + ranges.length(size, at)])) for at in parts]
    assert found == [None] * (len(parts) - 1) + [crc64nvme(body[:size])]
