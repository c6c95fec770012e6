"""Uploads in parts, in a directory store: hidden until they are finished, holes kept."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotwatchd.errors import Damaged
from spotwatchd.store.base import Part, Piece, UploadGone
from spotwatchd.store.checksum import crc64nvme, crc64nvme_of_chunks, crc64nvme_of_file
from spotwatchd.store.directory import PART_SIZE, DirectoryBackend
from spotwatchd.store.patience import Cancelled, Patience

KEY = "job/checkpoints/a/d/model.pt"
LIMITS = Patience()


class Source:
    """A local file, opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)

    def piece(self, offset: int, size: int) -> Piece:
        """A stretch of it."""
        return Piece(self.file, self.path, offset, size)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    made = Source(tmp_path / "source")
    yield made
    os.close(made.file)


def send(store: DirectoryBackend, source: Source, upload: str, size: int) -> list[Part]:
    """All parts, the last one first."""
    numbers = range((size + PART_SIZE - 1) // PART_SIZE, 0, -1)
    parts = []
    for number in numbers:
        at = (number - 1) * PART_SIZE
        piece = source.piece(at, min(PART_SIZE, size - at))
        parts.append(store.send_part(KEY, upload, number, piece, LIMITS))
    return parts


def uploads_left(store: DirectoryBackend) -> list[str]:
    return [key for key, _, _ in store.open_uploads("job")]


def test_nothing_is_seen_before_the_end_and_all_of_it_after(
    directory: DirectoryBackend, source: Source
) -> None:
    size = PART_SIZE + 3
    os.pwrite(source.file, os.urandom(size), 0)
    upload = directory.begin(KEY, LIMITS)
    parts = send(directory, source, upload, size)
    assert list(directory.objects("")) == []
    assert list(directory.children("")) == []
    assert directory.info(KEY) is None
    assert uploads_left(directory) == [KEY]
    directory.finish(KEY, upload, parts, LIMITS)
    assert crc64nvme_of_chunks(directory.read(KEY)) == crc64nvme_of_file(source.path)
    assert uploads_left(directory) == []
    assert [path.name for path in (directory.root / "job").iterdir()] == ["checkpoints"]


def test_a_part_that_is_sent_again_replaces_the_first(
    directory: DirectoryBackend, source: Source
) -> None:
    """Also where there is a hole now and was none before."""
    os.pwrite(source.file, b"x" * (3 << 20), 0)
    upload = directory.begin(KEY, LIMITS)
    send(directory, source, upload, 3 << 20)
    os.ftruncate(source.file, 1 << 20)
    os.ftruncate(source.file, 3 << 20)
    parts = send(directory, source, upload, 3 << 20)
    directory.finish(KEY, upload, parts, LIMITS)
    assert crc64nvme_of_chunks(directory.read(KEY)) == crc64nvme_of_file(source.path)


def test_holes_cost_no_room(directory: DirectoryBackend, source: Source) -> None:
    """A file of 200 MiB with 4 KiB in it: its copy has the same bytes and no more blocks."""
    size = 200 << 20
    os.ftruncate(source.file, size)
    os.pwrite(source.file, b"y" * 4096, 100 << 20)
    upload = directory.begin(KEY, LIMITS)
    directory.finish(KEY, upload, send(directory, source, upload, size), LIMITS)
    assert crc64nvme_of_chunks(directory.read(KEY)) == crc64nvme_of_file(source.path)
    assert (directory.root / KEY).stat().st_blocks * 512 <= 4 << 20


def test_an_upload_that_is_given_up_leaves_nothing(
    directory: DirectoryBackend, source: Source
) -> None:
    """Twice is no error, and an unknown one is none."""
    os.pwrite(source.file, b"z" * 100, 0)
    upload = directory.begin(KEY, LIMITS)
    send(directory, source, upload, 100)
    for token in (upload, upload, "0" * 32):
        directory.abort(KEY, token)
    assert uploads_left(directory) == []
    assert not (directory.root / "job").exists()
    with pytest.raises(UploadGone):
        send(directory, source, upload, 100)


def test_finishing_twice_is_a_success_only_for_the_same_bytes(
    directory: DirectoryBackend, source: Source
) -> None:
    os.pwrite(source.file, b"z" * 100, 0)
    upload = directory.begin(KEY, LIMITS)
    parts = send(directory, source, upload, 100)
    directory.finish(KEY, upload, parts, LIMITS)
    directory.finish(KEY, upload, parts, LIMITS)
    other = Part(1, 100, crc64nvme(b"a" * 100), "")
    with pytest.raises(UploadGone):
        directory.finish(KEY, upload, [other], LIMITS)


def test_a_missing_part_is_noticed(directory: DirectoryBackend, source: Source) -> None:
    os.ftruncate(source.file, PART_SIZE + 1)
    upload = directory.begin(KEY, LIMITS)
    parts = send(directory, source, upload, PART_SIZE + 1)
    with pytest.raises(ValueError, match="not all the parts"):
        directory.finish(KEY, upload, parts[:1], LIMITS)
    assert directory.info(KEY) is None


def test_a_file_that_became_shorter_is_refused(directory: DirectoryBackend, source: Source) -> None:
    os.pwrite(source.file, b"z" * 100, 0)
    upload = directory.begin(KEY, LIMITS)
    for offset in (1, 200):
        with pytest.raises(Damaged, match="shorter"):
            directory.send_part(KEY, upload, 1, source.piece(offset, 100), LIMITS)
        with pytest.raises(Damaged, match="shorter"):
            directory.put_piece(KEY, source.piece(offset, 100), LIMITS)
    assert directory.info(KEY) is None


def test_a_part_is_cancelled_in_the_middle(directory: DirectoryBackend, source: Source) -> None:
    """After its third chunk: the rest is not read any more."""
    os.pwrite(source.file, b"z" * (8 << 20), 0)
    stop = threading.Event()

    class Third(Patience):
        chunks = 0

        def spend(self, size: int) -> None:
            self.chunks += 1
            if self.chunks == 3:
                stop.set()
            super().spend(size)

    limits = Third(cancelled=stop)
    upload = directory.begin(KEY, limits)
    with pytest.raises(Cancelled):
        directory.send_part(KEY, upload, 1, source.piece(0, 8 << 20), limits)
    assert limits.chunks == 3


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_a_small_object_in_one_request(
    directory: DirectoryBackend, source: Source, size: int
) -> None:
    body = os.urandom(size)
    os.pwrite(source.file, b"12345" + body, 0)
    assert directory.put_piece(KEY, source.piece(5, size), LIMITS) == crc64nvme(body)
    assert b"".join(directory.read(KEY)) == body


def test_open_uploads_are_those_below_the_prefix(directory: DirectoryBackend) -> None:
    """With the time when each began; a neighbour's and strangers' files are not among them."""
    first = directory.begin(KEY, LIMITS)
    other = directory.begin("job2/checkpoints/a/x", LIMITS)
    directory.begin("job/checkpoints/ab/x", LIMITS)
    (directory.root / "job/.spotwatch-uploads/odd.key").write_bytes(b"../../etc\xff")
    [(key, token, began)] = directory.open_uploads("job/checkpoints/a")
    assert (key, token) == (KEY, first)
    assert abs(began - time.time()) < 3600
    assert [token for _, token, _ in directory.open_uploads("job2")] == [other]
    assert len(list(directory.open_uploads(""))) == 3
