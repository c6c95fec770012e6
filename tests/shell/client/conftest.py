from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.client.fake_daemon import FakeDaemon, running


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher speaks to these tests, and relative checkpoints land in tmp_path."""
    for name in list(os.environ):
        if name.startswith("SPOTWATCH_") or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SPOTWATCH_SOCKET", str(tmp_path / "nobody.sock"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose name leaves room for a socket (108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="sw") as name:
        yield Path(name)


@pytest.fixture
def daemon(short_dir: Path) -> Iterator[FakeDaemon]:
    with running(short_dir) as fake:
        yield fake
