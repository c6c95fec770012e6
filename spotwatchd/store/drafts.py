"""Checkpoints that are being written: found by looking, told apart by inode.

Names change while a checkpoint is written (a temporary name, then the true one), inodes do
not. What is found here is a guess: the seal decides, and what was sent early under a wrong
guess is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spotwatchd.store.local_scan import step_in
from spotwatchd.wire.seal import TEMPORARY_PREFIX, step_of

Identity = tuple[int, int]
"""Device and inode."""

# A file that matches a glob and was not touched for so long is not being written now.
_FRESH_SECONDS = 5.0
_DRAFT = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}(step-\d{{12,}})(-.*)?")
# What programs append or put before a name until the file is complete.
_SUFFIX = re.compile(r"(?:\.(?:tmp|temp|part|partial|incomplete|writing|new)[.\w-]{0,16}|~)$")
_PREFIX = re.compile(r"^\.?(?:(?:tmp|temp)[-_.])?")


@dataclass(frozen=True)
class GrowingFile:
    """A file as one look found it.

    Attributes:
        name: what it will probably be called, relative to its checkpoint (or, for a plain
            file, to the checkpoint directory).
        touched: when it was last written to, by its disk's clock, in ns.
    """

    identity: Identity
    path: Path
    name: str
    size: int
    touched: int


@dataclass(frozen=True)
class Draft:
    """A checkpoint as one look found it.

    Attributes:
        path: relative to the checkpoint directory, for people.
        step: by its name.
    """

    identity: Identity
    path: str
    step: int
    files: tuple[GrowingFile, ...]


def drafts(directory: Path, glob: str | None) -> Iterator[Draft]:
    """What is being written in a checkpoint directory now. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            match = _DRAFT.fullmatch(entry.name)
            step = step_of(match[1]) if match else None
            if step is not None and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    yield _directory(Path(entry.path), step)
    if glob is not None:
        yield from _plain_files(directory, glob)


def identity_of(path: Path) -> Identity | None:
    """What a name stands for now; None: nothing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _directory(path: Path, step: int) -> Draft:
    found = path.stat()
    files = tuple(_walk(path, ""))
    return Draft((found.st_dev, found.st_ino), path.name, step, files)


def _walk(folder: Path, prefix: str) -> Iterator[GrowingFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    name = prefix + _SUFFIX.sub("", entry.name)
                    yield _growing(Path(entry.path), name, entry.stat(follow_symlinks=False))


def _growing(path: Path, name: str, found: os.stat_result) -> GrowingFile:
    identity = (found.st_dev, found.st_ino)
    return GrowingFile(identity, path, name, found.st_size, found.st_mtime_ns)


def _plain_files(directory: Path, glob: str) -> Iterator[Draft]:
    """Files that match, or will once they have lost the marks of a temporary name."""
    oldest = time.time() - _FRESH_SECONDS
    for folder in {directory, *(path.parent for path in directory.glob(glob))}:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                name = final_name(PurePosixPath(entry.path).relative_to(directory))
                if not PurePosixPath(name).match(glob):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and found.st_mtime > oldest:
                        file = _growing(Path(entry.path), name, found)
                        yield Draft(file.identity, name, step_in(PurePosixPath(name).name), (file,))


def final_name(path: PurePosixPath) -> str:
    """What a temporary name will become: ``.tmp-model-40.pt.part`` is ``model-40.pt``."""
    plain = _SUFFIX.sub("", _PREFIX.sub("", path.name))
    return str(path.with_name(plain)) if plain else str(path)
