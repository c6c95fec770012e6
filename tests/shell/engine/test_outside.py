"""An attempt is over when nothing of it runs, also of what the daemon did not start."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotwatchd.engine.outside import Outside
from spotwatchd.jobs.leftovers import MARK
from tests.shell.jobs.boxes import Box, eventually, lives


@pytest.fixture
def box() -> Iterator[Box]:
    """A container with a process that does not listen to SIGTERM."""
    made = Box(user=True)
    yield made
    made.close()


async def _over(outside: Outside, pids: list[int], mark: Path | None = None) -> list[int]:
    """What still lives of ``pids`` when the core hears that all is gone."""
    heard: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    said: list[str] = []
    outside.then(lambda: heard.set_result([pid for pid in pids if lives(pid)]), said.append, mark)
    async with asyncio.timeout(30):
        found = await heard
    assert said == [], "nothing was in the way"
    await outside.close()
    return found


async def test_the_core_hears_it_when_the_container_is_empty(box: Box) -> None:
    """Whatever listens to SIGTERM or not: nothing lives when the word is passed on."""
    outside = Outside([], 0.3)
    pids = box.pids()
    assert len(pids) >= 2
    assert await outside.joined(pids[-1])
    assert await outside.joined(box.pid), "a second process of the same one"
    assert await _over(outside, pids) == []


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[int]:
    """A process that carries the mark of the attempt in ``tmp_path``."""
    program = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(program, env={MARK: str(tmp_path)})
    environment = Path(f"/proc/{process.pid}/environ")
    eventually(lambda: str(tmp_path) in environment.read_text(), "it has begun")
    yield process.pid
    process.kill()
    process.wait()


async def test_what_an_external_launcher_left_is_ended(orphan: int, tmp_path: Path) -> None:
    """It carries the mark of its attempt, and no launcher is there to end it."""
    assert await _over(Outside([], 0.3), [orphan], tmp_path) == []


async def test_nothing_outside_nothing_to_wait_for() -> None:
    """A job whose processes are all ours is over at once."""
    outside, heard = Outside([], 30.0), list[str]()
    assert await outside.joined(os.getpid()) is False
    outside.then(lambda: heard.append("gone"), heard.append)
    assert heard == ["gone"]
    await outside.close()


async def test_a_cgroup_of_an_earlier_life_that_is_gone(tmp_path: Path) -> None:
    """After a reboot there is nothing to end, and nothing is kept of it."""
    cgroups = [str(tmp_path / "docker-gone.scope")]
    assert await _over(Outside(cgroups, 30.0), []) == []
    assert cgroups == []
