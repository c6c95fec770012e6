"""A helper process that answers one line with one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from spotwatchd.errors import SpotwatchError

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """``python -m MODULE ARGUMENTS``; a context manager that ends it."""

    def __init__(
        self, module: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        """Nothing runs yet."""
        self._argv = [sys.executable, "-m", module, *map(str, arguments)]
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._argv, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=self._environment
        )
        return self

    def read(self) -> str:
        """The next line that it says. Raises SpotwatchError when it ended."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        line = self._process.stdout.readline()
        if not line:
            raise SpotwatchError("a part of the benchmark ended", where=" ".join(self._argv))
        return line.strip()

    def tell(self, line: str) -> None:
        """Say a line to it."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        """Say a line, hear the answer."""
        self.tell(line)
        return self.read()

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
