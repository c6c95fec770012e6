"""Commands run as a user runs them: as processes, with a daemon's socket at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.fake_daemon import FakeDaemon

ROOT = Path(__file__).resolve().parents[2]
Spotwatch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fake(short_dir: Path) -> Iterator[FakeDaemon]:
    from tests.cli.fake_daemon import FakeDaemon

    daemon = FakeDaemon(short_dir / "s.sock")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def environment(short_dir: Path) -> dict[str, str]:
    """An environment in which nothing of this machine's own daemon is found."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPOTWATCH_", "XDG_"))}
    runtime = short_dir / "runtime"
    runtime.mkdir(mode=0o700)
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "XDG_RUNTIME_DIR": str(runtime),
        "HOME": str(short_dir),
    }


@pytest.fixture
def spotwatch(short_dir: Path, environment: dict[str, str]) -> Spotwatch:
    """Run ``spotwatch`` to its end, from a directory of its own, on the fake daemon's socket."""

    def call(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "spotwatchd.cli.main", *words],
            cwd=short_dir,
            env={**environment, "SPOTWATCH_SOCKET": str(short_dir / "s.sock"), **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
            stdin=subprocess.DEVNULL,
        )

    return call
