"""The checkpoints that are moved: what files they have, and how they come about."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
_BLOCK = 4 * MIB
# Files have to be in memory, or the disk is measured.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a name of our own is made in it


@dataclass(frozen=True)
class Shape:
    """So many files of so many bytes each."""

    name: str
    files: int
    size: int

    @property
    def total(self) -> int:
        """Bytes."""
        return self.files * self.size


ONE = Shape("1 x 2 GiB", 1, 2 * GIB)
EIGHT = Shape("8 x 256 MiB", 8, 256 * MIB)
SMALL = Shape("1,000 x 64 KiB", 1000, 64 << 10)
SHAPES = (ONE, EIGHT, SMALL)


@contextmanager
def scratch(needed: int) -> Iterator[Path]:
    """A folder in memory (in /tmp where that is too small), gone afterwards."""
    free = shutil.disk_usage(_MEMORY).free if _MEMORY.is_dir() else 0
    parent = _MEMORY if free > needed + GIB else None
    with tempfile.TemporaryDirectory(prefix="spotwatch-bench-", dir=parent) as folder:
        yield Path(folder)


def make(shape: Shape, folder: Path) -> None:
    """Write the files, of bytes that do not repeat within a part and do not compress."""
    folder.mkdir(parents=True)
    block = random.Random(shape.name).randbytes(_BLOCK)
    for number in range(shape.files):
        with (folder / f"shard-{number:04}.bin").open("wb") as file:
            for start in range(0, shape.size, _BLOCK):
                piece = memoryview(block)[: min(_BLOCK, shape.size - start)]
                file.write(piece)
                file.flush()
                os.pwrite(file.fileno(), os.urandom(64), start)


def change(folder: Path) -> None:
    """Make every file another one, so that nothing sent before may stand for it."""
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), os.urandom(64), path.stat().st_size // 2)
