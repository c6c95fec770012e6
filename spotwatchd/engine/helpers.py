"""Other processes of ours: replicators, and the look into a store for unfinished jobs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spotwatchd.jobs.launcher import private_directory
from spotwatchd.jobs.spawn import Account, let_go, spawn

# A replicator that cannot start (broken installation, full disk) is tried again this often.
_RETRY = (0.5, 30.0)
_CONNECT = 3.0


class Replicator:
    """Keeps the replicator of one job alive while the job is here."""

    def __init__(
        self,
        document: dict[str, Any],
        who: Account,
        directory: Path,
        *,
        linked: Callable[[], bool],
        wanted: Callable[[], bool],
    ) -> None:
        """Set up.

        Args:
            document: what the replicator is told (docs/architecture.md).
            who: whom it runs as.
            directory: of the job; its configuration and log are kept there.
            linked: tells whether a replicator of the job is connected.
            wanted: tells whether the job still needs one.
        """
        self._document = document
        self._who = who
        self._directory = directory
        self._linked = linked
        self._wanted = wanted
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it alive. One that an earlier daemon started is found by its lock."""
        self._task = asyncio.get_running_loop().create_task(
            self._keep(), name=f"replicator-{self._document['name']}"
        )

    async def _keep(self) -> None:
        pause = _RETRY[0]
        while self._wanted():
            if not self._linked() and not self._alive():
                self._process = await asyncio.to_thread(self._spawn)
                await asyncio.sleep(_CONNECT)
                pause = _RETRY[0] if self._linked() else min(pause * 2, _RETRY[1])
            await asyncio.sleep(pause)
        # Asking for its status reaps it. Not in a thread: one that waits would hold up our end.
        while self._alive():  # noqa: ASYNC110
            await asyncio.sleep(_RETRY[0])

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _spawn(self) -> subprocess.Popen[bytes]:
        private_directory(self._directory, self._who)
        configuration = self._directory / "replicator.json"
        configuration.unlink(missing_ok=True)  # it may be another name of somebody else's file
        fd = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as stream:
            json.dump(self._document, stream)
            if self._who.uid != os.geteuid():
                os.fchown(stream.fileno(), self._who.uid, self._who.gid)
        return spawn(
            [sys.executable, "-m", "spotwatchd.store.replicator", "--job", str(configuration)],
            self._who,
            cwd="/",
            env={**os.environ, "HOME": self._who.home},
            output=self._directory / "replicator.log",
        )

    def abandon(self) -> None:
        """Stop looking after it: it was told to quit, and another takes its place."""
        if self._task is not None:
            self._task.cancel()
        if self._process is not None:
            let_go(self._process)

    async def close(self) -> None:
        """Stop looking after it; it goes on by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None:
            let_go(self._process)


async def unfinished_jobs(store: str, limit: float) -> list[dict[str, Any]]:
    """Unfinished jobs in ``store``: documents as store/discover.py says them.

    Runs in a process of its own, so that the daemon never loads a store's library.

    Raises:
        RuntimeError: with what that process said, when it failed or took over ``limit`` seconds.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "spotwatchd.store.discover", store),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limit):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RuntimeError(f"no answer within {limit:.0f} s") from None
    if process.returncode != 0:
        raise RuntimeError(err.decode("utf-8", "replace").strip() or "it ended without a word")
    jobs: list[dict[str, Any]] = json.loads(out)
    return jobs
