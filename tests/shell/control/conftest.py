"""A real server on a real Unix socket, in the test's own loop, with a desk in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from spotwatchd.control.server import ControlServer
from spotwatchd.wire import http
from tests.shell.control.memory import MemoryDesk

JOB = {"name": "resnet", "checkpoint_dir": "/data/ckpt"}


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[BlockBuster]:
    """A call in our code that blocks the event loop raises BlockingError."""
    with blockbuster_ctx("spotwatchd") as guard:
        yield guard


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short path that other users may enter."""
    path = Path(tempfile.mkdtemp(prefix="sw-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class Daemon:
    """A server, its desk, the defects it reported, and calls to it from threads."""

    def __init__(self, home: Path) -> None:
        self.path = home / "s.sock"
        self.desk = MemoryDesk()
        self.bugs: list[BaseException] = []
        self.server: ControlServer | None = None

    async def start(self, **settings: Any) -> ControlServer:
        self.server = ControlServer(self.desk, path=self.path, on_bug=self.bugs.append, **settings)
        await self.server.start()
        return self.server

    async def call(self, method: str, target: str, body: Any = None) -> Any:
        return await asyncio.to_thread(http.request, str(self.path), method, target, body)

    async def refused(self, method: str, target: str, body: Any = None) -> http.ProblemError:
        with pytest.raises(http.ProblemError) as caught:
            await self.call(method, target, body)
        problem = caught.value.problem
        assert problem["status"] == caught.value.status
        assert problem["detail"]
        assert problem["where"]
        return caught.value

    async def close(self) -> None:
        if self.server is not None:
            await self.server.close()
        self.desk.close()


@pytest.fixture
async def daemon(home: Path) -> AsyncIterator[Daemon]:
    """A daemon that is not started; whatever is reported to it as a defect fails the test."""
    made = Daemon(home)
    yield made
    await made.close()
    assert made.bugs == []


@pytest.fixture
async def up(daemon: Daemon) -> Daemon:
    """A daemon that answers, with one job."""
    await daemon.start()
    await daemon.call("POST", "/v1/jobs", JOB)
    return daemon


Until = Callable[[Callable[[], bool], str], Awaitable[None]]


@pytest.fixture
def soon() -> Until:
    """Wait in the loop for a condition, at most 40 s."""

    async def wait(condition: Callable[[], bool], what: str) -> None:
        end = asyncio.get_running_loop().time() + 40
        while not condition():
            assert asyncio.get_running_loop().time() < end, f"not within 40 s: {what}"
            await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def other_uid() -> int:
    """A user that is not us. Needs root, on purpose: nothing is skipped."""
    assert os.geteuid() == 0, "these tests need root to speak as another user"
    return 65534
