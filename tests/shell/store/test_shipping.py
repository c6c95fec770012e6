"""Many files at once, to real stores and through faults: what is said to be there is there."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from spotwatchd.errors import Damaged, StoreDenied, StoreUnavailable
from spotwatchd.store.base import Backend, Piece, UploadGone
from spotwatchd.store.checksum import crc64nvme, crc64nvme_of_chunks
from spotwatchd.store.growth import MOST
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.patience import Cancelled, Patience
from spotwatchd.store.shipping import HeadStart, Outgoing, Shipped, ship
from spotwatchd.store.swap import boottime
from tests.servers.proxy import Fault, Proxy

MIB = 1 << 20
PART = 5 * MIB  # the smallest that S3 allows
LARGE = 12 * MIB  # three parts
KEY = "job/checkpoints/a/"


@dataclass
class Files:
    """Files with random bytes, ready to go."""

    folder: Path

    def make(self, name: str, size: int) -> Outgoing:
        path = self.folder / name
        path.write_bytes(random.Random(f"{name} {size}").randbytes(size))
        return Outgoing(KEY + name, path, name, size)


@pytest.fixture
def store(store: Backend) -> Backend:
    """Each kind of store in turn, with small parts."""
    store.part_size = PART
    return store


@pytest.fixture
def proxied(proxy: Proxy, s3_prefix: str, aws_environment: StoreOptions) -> Backend:
    """A store behind the proxy; its silence is long enough for a busy machine."""
    options = replace(aws_environment, endpoint_url=proxy.endpoint, read_timeout=4.0)
    store = open_backend(f"s3://{s3_prefix}", options)
    store.part_size = PART
    return store


@pytest.fixture
def files(tmp_path: Path) -> Files:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    return Files(folder)


def limits(seconds: float = 50.0) -> Patience:
    return Patience(boottime() + seconds)


def assert_stored(store: Backend, files: list[Outgoing], shipped: list[Shipped]) -> None:
    """What is there is what is on disk, and what was said; and nothing else is there."""
    assert [one.key for one in shipped] == [file.key for file in files]
    for file, one in zip(files, shipped, strict=True):
        body = file.path.read_bytes()
        assert (one.name, one.size, one.crc64nvme) == (file.name, len(body), crc64nvme(body))
        assert crc64nvme_of_chunks(store.read(file.key)) == (one.size, one.crc64nvme)
    assert {found.key for found in store.objects("job")} == {file.key for file in files}
    assert list(store.open_uploads("job")) == []


def part_numbers(proxy: Proxy) -> list[int]:
    """Of every UploadPart that was sent."""
    found = [re.search(r"partNumber=(\d+)", target) for _, target in proxy.seen]
    return [int(one[1]) for one in found if one]


SHAPES = {
    "nothing": [],
    "empty": [0],
    "around one request": [8 * MIB, 8 * MIB + 1],
    "around a part": [2 * PART - 1, 2 * PART, 2 * PART + 1],
    "small and large": [1, LARGE, 10, 9 * MIB, 0, 70_000],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_files_arrive_whole(store: Backend, files: Files, shape: str) -> None:
    going = [files.make(f"f{number}", size) for number, size in enumerate(SHAPES[shape])]
    assert_stored(store, going, ship(store, going, limits()))


def test_many_small_files(store: Backend, files: Files) -> None:
    """Few are open at a time, and none stays open."""
    going = [files.make(f"rank-{number}.pt", 1000 + number) for number in range(200)]
    before = psutil.Process().num_fds()
    shipped = ship(store, going, limits())
    assert psutil.Process().num_fds() <= before + 2 * MOST + 4
    assert_stored(store, going, shipped)


def test_a_file_too_large_for_ten_thousand_parts_gets_larger_ones(
    aws_environment: StoreOptions, proxy: Proxy, s3_prefix: str, files: Files
) -> None:
    """As if parts were tiny: 12 MiB are then more than ten thousand of them."""
    store = open_backend(f"s3://{s3_prefix}?endpoint={proxy.endpoint}", aws_environment)
    store.part_size = 1000
    going = [files.make("large", 12 * MIB)]
    proxy.add(Fault("answer", "PUT", times=-1, status=400, code="EntityTooSmall"))
    with pytest.raises(StoreDenied):
        ship(store, going, limits())
    assert set(part_numbers(proxy)) <= set(range(1, 13))


# ---------------------------------------------------------------------- a head start


def early(store: Backend, file: Outgoing, numbers: list[int]) -> HeadStart:
    """Some parts of a file, as the follower sends them."""
    upload = store.begin(file.key, limits())
    parts = {}
    with file.path.open("rb") as opened:
        for number in numbers:
            offset = (number - 1) * store.part_size
            size = min(store.part_size, file.size - offset)
            piece = Piece(opened.fileno(), file.path, offset, size)
            parts[number] = store.send_part(file.key, upload, number, piece, limits())
    return HeadStart(upload, parts)


def test_parts_that_were_sent_early_are_not_sent_again(
    proxy: Proxy, proxied: Backend, files: Files
) -> None:
    file = files.make("grown", LARGE)
    file = replace(file, head_start=early(proxied, file, [1, 2]))
    proxy.clear()
    shipped = ship(proxied, [file], limits())
    assert part_numbers(proxy) == [3]
    assert_stored(proxied, [file], shipped)


def test_early_parts_whose_bytes_have_changed_are_sent_again(store: Backend, files: Files) -> None:
    """A header that is written at the end, and a file that became shorter."""
    file = files.make("grown", LARGE)
    start = early(store, file, [1, 2, 3])
    body = bytearray(file.path.read_bytes())[: LARGE - 5]
    body[0] ^= 1
    file.path.write_bytes(body)
    file = replace(file, size=len(body), head_start=start)
    assert_stored(store, [file], ship(store, [file], limits()))


@pytest.mark.parametrize("size", [0, 5, PART])
def test_a_file_that_shrank_after_its_head_start(store: Backend, files: Files, size: int) -> None:
    file = files.make("grown", LARGE)
    start = early(store, file, [1, 2])
    file.path.write_bytes(file.path.read_bytes()[:size])
    file = replace(file, size=size, head_start=start)
    assert_stored(store, [file], ship(store, [file], limits()))


def test_an_upload_that_somebody_aborted_is_begun_anew(store: Backend, files: Files) -> None:
    """The early parts are gone with it: everything is sent."""
    file = files.make("grown", LARGE)
    start = early(store, file, [1, 2])
    store.abort(file.key, start.upload)
    heard: list[StoreUnavailable] = []
    file = replace(file, head_start=start)
    shipped = ship(store, [file], limits(), trouble=heard.append)
    assert any(isinstance(error, UploadGone) for error in heard)
    assert_stored(store, [file], shipped)


# ---------------------------------------------------------------------- faults


@pytest.mark.parametrize("number", [1, 3])
def test_a_part_that_hangs_is_sent_a_second_time(
    proxy: Proxy, s3_prefix: str, aws_environment: StoreOptions, files: Files, number: int
) -> None:
    """Its first sender would wait for longer than this test may take."""
    options = replace(aws_environment, endpoint_url=proxy.endpoint, read_timeout=500.0)
    store = open_backend(f"s3://{s3_prefix}", options)
    store.part_size = PART
    proxy.add(Fault("stall", "PUT", f"partNumber={number}&"))
    going = [files.make("a", LARGE), files.make("b", 1000)]
    heard: list[StoreUnavailable] = []
    shipped = ship(store, going, limits(), trouble=heard.append)
    assert heard == []
    assert part_numbers(proxy).count(number) >= 2
    assert_stored(store, going, shipped)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset", "PUT", times=3),
        Fault("lose", "PUT", times=2),
        Fault("cut", "PUT", times=2),
        Fault("answer", "PUT", times=3, status=503, code="SlowDown"),
        Fault("answer", "PUT", "partNumber=2", times=2, status=200, code="InternalError"),
        Fault("answer", "POST", "uploads", times=2),
        Fault("answer", "POST", "uploadId", status=200, code="InternalError"),
        Fault("answer", "PUT", "partNumber=2", status=404, code="NoSuchUpload"),
        Fault("answer", "POST", "uploadId", status=404, code="NoSuchUpload"),
        Fault("answer", "POST", "uploadId", status=400, code="InvalidPart"),
        Fault("lose", "POST", "uploadId"),
        Fault("mute", "POST", "uploadId"),
        Fault("reset", "HEAD", times=2),
        Fault("garble", "PUT", times=2),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.method}-{fault.path}-{fault.status}-{fault.code}",
)
def test_what_may_pass_is_ridden_out(
    proxy: Proxy, proxied: Backend, files: Files, fault: Fault
) -> None:
    proxy.add(replace(fault))
    going = [files.make("a", LARGE), files.make("b", 1000), files.make("c", 0)]
    heard: list[StoreUnavailable] = []
    shipped = ship(proxied, going, limits(), trouble=heard.append)
    assert_stored(proxied, going, shipped)


def test_an_endpoint_that_dies_and_comes_back(proxy: Proxy, proxied: Backend, files: Files) -> None:
    going = [files.make("a", LARGE), files.make("b", 1000)]
    proxy.add(Fault("reset", times=-1))
    heard: list[StoreUnavailable] = []

    def back_soon(error: StoreUnavailable) -> None:
        heard.append(error)
        if len(heard) == 8:
            proxy.clear()

    assert_stored(proxied, going, ship(proxied, going, limits(), trouble=back_soon))
    assert len(heard) >= 8


def test_a_refusal_ends_everything(proxy: Proxy, proxied: Backend, files: Files) -> None:
    """The other files as well; the uploads that were begun are aborted."""
    going = [files.make(f"f{number}", LARGE) for number in range(3)]
    proxy.add(Fault("answer", "PUT", "partNumber=2", times=-1, status=403, code="AccessDenied"))
    with pytest.raises(StoreDenied, match="UploadPart answered 403"):
        ship(proxied, going, limits())
    assert proxy.count("PUT") < 9
    assert list(proxied.objects("job")) == []
    assert list(proxied.open_uploads("job")) == []


def test_a_cancel_ends_everything(proxy: Proxy, proxied: Backend, files: Files) -> None:
    """While parts hang, and while the pauses between tries last."""
    going = [files.make("a", LARGE), *(files.make(f"b{number}", 10) for number in range(5))]
    proxy.add(Fault("stall", "PUT", "partNumber=1"))
    proxy.add(Fault("answer", "PUT", times=-1))
    wanted = Patience()
    threading.Timer(1.0, wanted.cancelled.set).start()
    with pytest.raises(Cancelled):
        ship(proxied, going, wanted)
    proxy.clear()
    assert list(proxied.objects("job")) == []
    assert list(proxied.open_uploads("job")) == []


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_file_that_is_gone_ends_everything(store: Backend, files: Files, size: int) -> None:
    going = [files.make("a", LARGE), files.make("b", size), files.make("c", LARGE)]
    going[1].path.unlink()
    with pytest.raises(Damaged) as refused:
        ship(store, going, limits())
    assert str(going[1].path) in refused.value.where
    assert list(store.open_uploads("job")) == []


def test_bytes_that_change_while_they_are_sent_are_never_stored_wrong(
    s3: Backend, files: Files
) -> None:
    """A writer that does not stop: what is said to be stored is what the store holds."""
    s3.part_size = PART
    file = files.make("busy", LARGE)
    ended = threading.Event()

    def write() -> None:
        opened = os.open(file.path, os.O_WRONLY)
        while not ended.wait(0.002):
            os.pwrite(opened, os.urandom(64), random.Random(boottime()).randrange(LARGE - 64))
        os.close(opened)

    writer = threading.Thread(target=write)
    writer.start()
    threading.Timer(3.0, ended.set).start()
    try:
        (shipped,) = ship(s3, [file], limits())
    finally:
        ended.set()
        writer.join()
    assert crc64nvme_of_chunks(s3.read(file.key)) == (LARGE, shipped.crc64nvme)


Call = Callable[[Backend], object]


def test_open_uploads_say_when_they_began(s3: Backend) -> None:
    """By the store's clock; only those below the prefix, and only until they are aborted."""
    first = s3.begin("job/a/x", limits())
    second = s3.begin("job/a/x", limits())
    s3.begin("job2/a/x", limits())
    found = {token: (key, began) for key, token, began in s3.open_uploads("job")}
    assert set(found) == {first, second}
    assert all(key == "job/a/x" for key, _ in found.values())
    assert all(began > 1.7e9 for _, began in found.values())
    s3.abort("job/a/x", first)
    s3.abort("job/a/x", first)
    assert [token for _, token, _ in s3.open_uploads("job")] == [second]
