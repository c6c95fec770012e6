"""What is on local disk already need not be fetched, if it is what the manifest says."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.core.manifest import Manifest, StoredFile
from spotwatchd.store.crew import Crew
from spotwatchd.store.ranges import Sums, length, local_sum, offsets

_THREADS = 4


@dataclass
class _Look:
    path: Path
    entry: StoredFile
    sums: Sums = field(init=False)

    def __post_init__(self) -> None:
        self.sums = Sums(self.entry.size)


def matching(
    root: Path, entries: Iterable[StoredFile], check: Callable[[], None] = lambda: None
) -> set[str]:
    """The paths of the ``entries`` that have their size and checksum below ``root``.

    Several files, and several ranges of a large one, are read at once. ``check`` raises when
    it is time to stop.
    """
    found: set[str] = set()

    def look(item: tuple[_Look, int]) -> None:
        check()
        file, offset = item
        with contextlib.suppress(OSError):
            crc = local_sum(file.path, offset, length(file.entry.size, offset))
            if crc is not None and file.sums.add(offset, crc) == file.entry.crc64nvme:
                found.add(file.entry.path)

    Crew(look, _THREADS).run(_looks(root, entries))
    return found


def _looks(root: Path, entries: Iterable[StoredFile]) -> Iterator[tuple[_Look, int]]:
    for entry in entries:
        path = root / entry.path
        if _may_match(path, entry.size):
            file = _Look(path, entry)
            for offset in offsets(entry.size):
                yield file, offset


def _may_match(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False


def link_matching(
    root: Path, entries: Sequence[StoredFile], target: Path, check: Callable[[], None]
) -> set[str]:
    """Give the matching files below ``root`` a second name below ``target``; returns their paths.

    For a ``root`` that is about to be deleted. What cannot be linked is left out.
    """
    found = matching(root, entries, check) if root.is_dir() else set()
    return {path for path in found if _placed(_link, root / path, target / path)}


def copy_known(
    root: Path,
    manifest: Manifest,
    entries: Sequence[StoredFile],
    target: Path,
    check: Callable[[], None],
) -> set[str]:
    """Copy what ``entries`` have in common with another sealed checkpoint; returns the paths.

    Only files of which the other's manifest says that they are the same are read at all: the
    local disk may be slower than the store.
    """
    known = {(file.path, file.size, file.crc64nvme) for file in manifest.files}
    shared = [each for each in entries if (each.path, each.size, each.crc64nvme) in known]
    found = matching(root, shared, check)
    return {path for path in found if _placed(_copy, root / path, target / path)}


def _placed(how: Callable[[Path, Path], None], source: Path, target: Path) -> bool:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        how(source, target)
    except OSError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    os.link(source, target, follow_symlinks=True)


def _copy(source: Path, target: Path) -> None:
    """Where the file system can share blocks, it does."""
    with source.open("rb") as old, target.open("xb") as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left and (done := os.copy_file_range(old.fileno(), new.fileno(), left)):
                left -= done
        except OSError:
            pass
        else:
            if not left:
                return
    shutil.copyfile(source, target)
