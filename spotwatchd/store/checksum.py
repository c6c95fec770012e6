"""CRC64NVME, the checksum that S3 keeps of whole objects.

It is linear, so parts uploaded in parallel have a checksum of the whole; and awscrt
computes it at about 30 GB/s on one core, so checking never is the slow part.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from awscrt import checksums

# Large enough that a call per chunk costs nothing, small enough to stay in the L2 cache.
CHUNK = 1 << 20
_HEX16 = re.compile(r"[0-9a-f]{16}")


class Readable(Protocol):
    """Anything opened for reading bytes."""

    def read(self, size: int, /) -> bytes: ...


def crc64nvme(data: bytes | memoryview, previous: int = 0) -> int:
    """The checksum of ``data``, or of what ``previous`` stands for followed by ``data``."""
    return int(checksums.crc64nvme(data, previous))


def joined(parts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The size and the checksum of parts joined, from theirs: (size, checksum) of each."""
    whole = crc = 0
    for size, one in parts:
        crc = int(checksums.combine_crc64nvme(crc, one, size))
        whole += size
    return whole, crc


def crc64nvme_of_range(
    file: int, offset: int, size: int, look: Callable[[], object] = lambda: None
) -> tuple[int, int]:
    """How much of a range of an open file there is, and its checksum.

    Read through a small buffer: mapping the file would count it all as this process's memory.

    Args:
        file: a descriptor.
        offset: of the range's first byte.
        size: bytes.
        look: called before each read; raises to end it.
    """
    buffer = memoryview(bytearray(min(CHUNK, size)))
    done = crc = 0
    while done < size:
        look()
        got = os.preadv(file, [buffer[: min(CHUNK, size - done)]], offset + done)
        if not got:
            break
        crc = crc64nvme(buffer[:got], crc)
        done += got
    return done, crc


def crc64nvme_of_chunks(chunks: Iterable[bytes]) -> tuple[int, int]:
    """The size in bytes and the checksum of the chunks joined."""
    size = crc = 0
    for chunk in chunks:
        size += len(chunk)
        crc = crc64nvme(chunk, crc)
    return size, crc


def crc64nvme_of_file(path: Path) -> tuple[int, int]:
    """The size in bytes and the checksum of a file. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return crc64nvme_of_chunks(chunks_of(file))


def chunks_of(file: Readable, limit: int | None = None) -> Iterable[bytes]:
    """The bytes of an open file from where it stands, at most ``limit`` of them."""
    left = limit
    while left is None or left > 0:
        chunk = file.read(CHUNK if left is None else min(CHUNK, left))
        if not chunk:
            return
        left = None if left is None else left - len(chunk)
        yield chunk


def to_hex16(crc: int) -> str:
    """As manifests write it: 16 lower-case hex digits."""
    return f"{crc:016x}"


def from_hex16(text: str) -> int:
    """The inverse of to_hex16. Raises ValueError for anything else."""
    if not _HEX16.fullmatch(text):
        raise ValueError(f"not 16 lower-case hex digits: {text!r}")
    return int(text, 16)


def to_base64(crc: int) -> str:
    """As S3's headers write it: base64 of the 8 bytes, big endian."""
    return base64.b64encode(crc.to_bytes(8, "big")).decode("ascii")


def from_base64(text: str) -> int:
    """The inverse of to_base64. Raises ValueError for anything else."""
    raw = base64.b64decode(text, validate=True)
    if len(raw) != 8:
        raise ValueError(f"not 8 bytes in base64: {text!r}")
    return int.from_bytes(raw, "big")
