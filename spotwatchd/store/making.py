"""Files in the making, in a directory store: parts in any order, seen by nobody.

An upload is two hidden files in ``JOB/.spotwatch-uploads/``: ``TOKEN``, to which the parts
are written at their places, and ``TOKEN.key``, which says under which key the file will
stand. Listings leave the folder out. Everything raises OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from spotwatchd.errors import Damaged
from spotwatchd.store import files
from spotwatchd.store.base import Limits, Part, Piece
from spotwatchd.store.checksum import CHUNK, crc64nvme
from spotwatchd.store.keys import RESERVED_PREFIX, check_key
from spotwatchd.store.oserrors import local_errors

UPLOADS = f"{RESERVED_PREFIX}uploads"
_KEY = ".key"
_ZEROS = memoryview(bytes(CHUNK))
# A folder that is removed because it is empty races with the one who makes it again.
_ROUNDS = 20


class _Buffer(threading.local):
    """One per thread, reused: memory does not grow with what is copied."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(CHUNK))


_BUFFER = _Buffer()


def folder_of(root: Path, key: str) -> Path:
    """Where the uploads are that belong to the same job as ``key``."""
    job, slash, _ = key.partition("/")
    return root / job / UPLOADS if slash else root / UPLOADS


def begin(root: Path, key: str) -> str:
    """Make room for a file; returns the upload's token."""
    token = uuid.uuid4().hex
    folder = folder_of(root, key)
    for _ in range(_ROUNDS):
        with contextlib.suppress(FileNotFoundError):
            files.make_directories(folder, root)
            (folder / f"{token}{_KEY}").write_bytes(key.encode())
            (folder / token).touch(exist_ok=False)
            return token
    raise FileNotFoundError(errno.ENOENT, "it is removed again and again", str(folder))


def write_part(path: Path, at: int, piece: Piece, limits: Limits) -> int:
    """Copy ``piece`` to offset ``at`` of the file ``path``; returns its CRC64NVME.

    Holes stay holes. Raises Damaged when the piece ends before its size.
    """
    target = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _copy(piece, target, at - piece.offset, limits)
    finally:
        os.close(target)


def copy_piece(piece: Piece, target: int, limits: Limits) -> int:
    """Copy ``piece`` to the begin of an open file; returns its CRC64NVME. Raises Damaged."""
    return _copy(piece, target, -piece.offset, limits)


def _copy(piece: Piece, target: int, shift: int, limits: Limits) -> int:
    crc = 0
    for offset, size, is_hole in _chunks(piece):
        limits.spend(0 if is_hole else size)
        chunk = _ZEROS[:size] if is_hole else _read(piece, offset, size)
        crc = crc64nvme(chunk, crc)
        if not is_hole or _has_data(target, offset + shift, size):
            _write(target, chunk, offset + shift)
    return crc


def _chunks(piece: Piece) -> Iterator[tuple[int, int, bool]]:
    for start, size, is_hole in _extents(piece):
        for offset in range(start, start + size, CHUNK):
            yield offset, min(CHUNK, start + size - offset), is_hole


def _extents(piece: Piece) -> Iterator[tuple[int, int, bool]]:
    """Offset, size and whether it is a hole, of the stretches of ``piece``."""
    end = piece.offset + piece.size
    with local_errors(piece.path, "the store"):
        if os.fstat(piece.file).st_size < end:
            raise _shorter(piece)
    at = piece.offset
    while at < end:
        data = min(end, _seek(piece.file, at, os.SEEK_DATA, end))
        if data > at:
            yield at, data - at, True
        if data < end:
            at = min(end, _seek(piece.file, data, os.SEEK_HOLE, end))
            yield data, at - data, False
        else:
            at = end


def _seek(file: int, offset: int, what: int, otherwise: int) -> int:
    try:
        return os.lseek(file, offset, what)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return otherwise
        raise


def _has_data(file: int, offset: int, size: int) -> bool:
    """Whether something was written there before: then zeros must be, too."""
    return _seek(file, offset, os.SEEK_DATA, offset + size) < offset + size


def _read(piece: Piece, offset: int, size: int) -> memoryview:
    view, filled = _BUFFER.view[:size], 0
    while filled < size:
        with local_errors(piece.path, "the store"):
            got = os.preadv(piece.file, [view[filled:]], offset + filled)
        if not got:
            raise _shorter(piece)
        filled += got
    return view


def _shorter(piece: Piece) -> Damaged:
    return Damaged(
        "cannot put: the file became shorter while it was stored",
        where=str(piece.path),
        remedy="checkpoints must not change after their rename: save to a new name",
    )


def _write(file: int, chunk: memoryview, offset: int) -> None:
    while chunk:
        done = os.pwrite(file, chunk, offset)
        chunk, offset = chunk[done:], offset + done


def finish(root: Path, key: str, token: str, size: int) -> None:
    """Give the file its name, durably. Raises FileNotFoundError for an unknown upload."""
    path = folder_of(root, key) / token
    with path.open("r+b", buffering=0) as file:
        os.ftruncate(file.fileno(), size)  # the last hole, which nobody wrote
        files.finish(file, size)
    target = root / key
    for left in reversed(range(_ROUNDS)):
        try:
            files.make_directories(target.parent, root)
            files.replace(path, target)
            break
        except FileNotFoundError:
            if not left:
                raise
    abort(root, key, token)


def is_there(path: Path, parts: Sequence[Part]) -> bool:
    """Whether the file consists of just these parts: read back, for nobody else knows."""
    with contextlib.suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != sum(part.size for part in parts):
            return False
        return all(_sum(file.fileno(), part.size) == part.crc64nvme for part in parts)
    return False


def _sum(file: int, size: int) -> int:
    crc = 0
    while size and (got := os.readv(file, [_BUFFER.view[:size]])):
        crc, size = crc64nvme(_BUFFER.view[:got], crc), size - got
    return crc


def abort(root: Path, key: str, token: str) -> None:
    """Remove what is left of an upload, and its folder when it was the last one."""
    if token.startswith(files.TEMPORARY_PREFIX):
        (root / key).with_name(token).unlink(missing_ok=True)
        return
    folder = folder_of(root, key)
    (folder / token).unlink(missing_ok=True)
    (folder / f"{token}{_KEY}").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def open_uploads(root: Path, prefix: str) -> Iterator[tuple[str, str, float]]:
    """Key, token and time of begin of the uploads below ``prefix`` ("" or "JOB/...")."""
    for path in _key_files(root, prefix):
        with contextlib.suppress(FileNotFoundError, ValueError):
            key = check_key(path.read_bytes().decode())
            began = path.stat().st_mtime
            if key.startswith(prefix) and folder_of(root, key) == path.parent:
                yield key, path.name.removesuffix(_KEY), began
    yield from _temporaries(root, prefix)


def _temporaries(root: Path, prefix: str) -> Iterator[tuple[str, str, float]]:
    """What died while it wrote a small object, beside the place where that would stand."""
    for path in sorted((root / prefix).rglob(f"{files.TEMPORARY_PREFIX}*")) if prefix else ():
        with contextlib.suppress(FileNotFoundError):
            key = str(path.with_name("unfinished").relative_to(root))
            yield key, path.name, path.stat().st_mtime


def _key_files(root: Path, prefix: str) -> list[Path]:
    found = [] if prefix else sorted(root.glob(f"{UPLOADS}/*{_KEY}"))
    job = prefix.partition("/")[0]
    jobs = [root / job] if job else sorted(path for path in root.iterdir() if path.is_dir())
    for folder in jobs:
        found += sorted((folder / UPLOADS).glob(f"*{_KEY}"))
    return found
