"""The output of a job, copied as it grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 16


def _size(path: str | None) -> int:
    try:
        return 0 if path is None else Path(path).stat().st_size
    except OSError:
        return 0


class Tail:
    """Copies the output files of a job's attempts, one after the other."""

    def __init__(self, out: BinaryIO, *, from_end_of: str | None = None) -> None:
        """Set up.

        Args:
            out: where to.
            from_end_of: a file whose present content is not shown (it is from before us).
        """
        self._out = out
        self._skip = from_end_of
        self._skip_bytes = _size(from_end_of)
        self._path: str | None = None
        self._file: BinaryIO | None = None
        self.refused = ""

    def follow(self, path: str | None) -> None:
        """Turn to ``path``, after what is left of the one before."""
        if path is None or path == self._path:
            return
        self.copy()
        self.close()
        self._path = path

    def copy(self) -> None:
        """Copy what is there now."""
        if self._file is None:
            self._open()
        if self._file is None:
            return
        while chunk := self._next(self._file):
            self._out.write(chunk)
        self._out.flush()

    @staticmethod
    def _next(file: BinaryIO) -> bytes:
        """What comes next; the middle of a long output is a hole (jobs/shim.py)."""
        here, fd = file.tell(), file.fileno()
        try:
            data = os.lseek(fd, here, os.SEEK_DATA)
        except OSError:
            file.seek(here)
            return b""  # nothing after this place
        if data > here:
            file.seek(data)
            return b"\n[... %d bytes of output were not kept ...]\n" % (data - here)
        most = os.lseek(fd, here, os.SEEK_HOLE) - here
        file.seek(here)
        return file.read(min(_CHUNK, most))

    def _open(self) -> None:
        if self._path is None or self.refused == self._path:
            return
        try:
            # Unbuffered: the place in the file is where the last piece ended.
            self._file = Path(self._path).open("rb", buffering=0)  # noqa: SIM115 - it stays open, see close()
        except FileNotFoundError:
            return  # the attempt is about to begin
        except OSError:
            self.refused = self._path
            return
        if self._path == self._skip:
            self._file.seek(self._skip_bytes)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
