"""Finding sealed checkpoints: renamed directories, and files that stand still."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from spotwatchd.core.words import Seal
from spotwatchd.store.swap import boottime
from spotwatchd.wire.seal import step_of

_NUMBER = re.compile(r"\d+", re.ASCII)


def mark_of(path: Path) -> str:
    """Tells two contents of one path apart: inode and mtime in ns. Raises OSError."""
    found = path.stat()
    return f"{found.st_ino}-{found.st_mtime_ns}"


def step_in(name: str) -> int:
    """The step that a plain file's name tells: its last number, or 0."""
    numbers = _NUMBER.findall(name)
    return int(numbers[-1]) if numbers else 0


class Scanner:
    """Looks at one checkpoint directory again and again. One thread at a time.

    Args:
        glob: pattern of plain files that are checkpoints too.
        settle: seconds for which such a file must not change to count as sealed.
    """

    def __init__(self, directory: Path, glob: str | None, settle: float) -> None:
        self._directory = directory
        self._glob = glob
        self._settle = settle
        self._unsettled: dict[str, tuple[int, int, float]] = {}

    def sealed(self) -> Iterator[tuple[int, int, str, Seal]]:
        """Sort keys (mtime in ns, step, path) and the seal of each. Raises OSError."""
        for path, step in (*self._step_directories(), *self._matching_files()):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            name = str(path.relative_to(self._directory))
            mark = f"{found.st_ino}-{found.st_mtime_ns}"
            yield found.st_mtime_ns, step, name, Seal(name, step, mark)

    def _step_directories(self) -> Iterator[tuple[Path, int]]:
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    step = step_of(entry.name)
                    if step is not None and entry.is_dir(follow_symlinks=False):
                        yield Path(entry.path), step
        except FileNotFoundError:
            return

    def _matching_files(self) -> Iterator[tuple[Path, int]]:
        if self._glob is None:
            return
        seen: dict[str, tuple[int, int, float]] = {}
        for path in self._directory.glob(self._glob):
            name = str(path.relative_to(self._directory))
            if not any(part.startswith(".") for part in name.split("/")) and self._settled(
                path, name, seen
            ):
                yield path, step_in(path.name)
        self._unsettled = seen

    def _settled(self, path: Path, name: str, seen: dict[str, tuple[int, int, float]]) -> bool:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode):
            return False
        now = (found.st_size, found.st_mtime_ns)
        size, mtime, since = self._unsettled.get(name, (-1, -1, 0.0))
        seen[name] = (*now, since if (size, mtime) == now else boottime())
        return boottime() - seen[name][2] >= self._settle
