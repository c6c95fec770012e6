"""Starting, finding again and ending the attempts of a job, as child processes.

The other implementation of the same interface (transient systemd units) is for machines
where systemd is PID 1; both leave the program running when the daemon goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spotwatchd.errors import JobError
from spotwatchd.jobs import leftovers, pidfd, shim
from spotwatchd.jobs.spawn import Account, in_the_way, let_go, spawn


@dataclass(frozen=True)
class Order:
    """One attempt to start.

    Attributes:
        job: name of the job.
        attempt: number of the attempt, 1 for the first.
        argv, cwd, env: the program.
        who: whom it runs as.
        directory: of this attempt; made here; ``output.log`` and ``exit.json`` end up in it.
        grace: seconds between SIGTERM and SIGKILL when it is stopped.
        ask_signal: signal that asks it to save, or None.
        env_file, env_command: where the shim finds the program's secrets, or None.
    """

    job: str
    attempt: int
    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    who: Account
    directory: Path
    grace: float
    ask_signal: int | None
    env_file: str | None = None
    env_command: str | None = None


class Launcher(Protocol):
    """What the engine needs to run jobs."""

    async def start(self, order: Order, gone: Callable[[int | None], None]) -> None:
        """Start it; ``gone(status)`` is called in the loop when all of it is over."""

    async def adopt(self, job: str, directory: Path, gone: Callable[[int | None], None]) -> bool:
        """Watch an attempt that an earlier daemon started; False when it is over."""

    def ask(self, job: str) -> None:
        """Send the signal that asks the program to save."""

    def stop(self, job: str) -> None:
        """End the attempt: SIGTERM, SIGKILL after its grace."""


def recorded_status(directory: Path) -> int | None:
    """The exit status that the shim left in ``directory``, or None.

    The directory belongs to the job's user, so what is in it is read with suspicion.
    """
    try:
        fd = os.open(directory / "exit.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as stream:
        raw = stream.read(4096)
    try:
        status = json.loads(raw)["status"]
    except (ValueError, KeyError, TypeError):
        return None
    return status if isinstance(status, int) else None


def _recorded_shim(directory: Path) -> tuple[int, int] | None:
    try:
        fd = os.open(directory / "shim.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as stream:
        raw = stream.read(4096)
    try:
        document = json.loads(raw)
        return int(document["pid"]), int(document["started"])
    except (ValueError, KeyError, TypeError):
        return None


def _find_shim(directory: Path) -> int | None:
    recorded = _recorded_shim(directory)
    return None if recorded is None else pidfd.open_checked(*recorded)


def private_directory(path: Path, who: Account) -> None:
    """Make ``path`` a directory that only ``who`` (and the daemon) may enter.

    The one above may be theirs: a link that they put in its place is not followed.
    Raises JobError when something else is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise in_the_way(path, error.strerror or str(error)) from error
    try:
        os.fchmod(fd, 0o700)
        if who.uid != os.geteuid():
            os.fchown(fd, who.uid, who.gid)
    finally:
        os.close(fd)


class ChildLauncher:
    """Jobs as child processes of the daemon, each below a shim."""

    def __init__(self) -> None:
        self._running: dict[str, pidfd.Watched] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._finishing: set[asyncio.Task[None]] = set()

    async def start(self, order: Order, gone: Callable[[int | None], None]) -> None:
        """Start it. Raises JobError when nothing could be started."""
        process = await asyncio.to_thread(_spawn_shim, order)
        fd = os.pidfd_open(process.pid)
        self._children[order.job] = process
        self._watch(order.job, order.directory, fd, process, gone)

    async def adopt(self, job: str, directory: Path, gone: Callable[[int | None], None]) -> bool:
        """Watch an attempt that an earlier daemon started; False when it is over."""
        fd = await asyncio.to_thread(_find_shim, directory)
        if fd is None:
            await asyncio.to_thread(leftovers.end, directory)
            return False
        self._watch(job, directory, fd, None, gone)
        return True

    def ask(self, job: str) -> None:
        """Send the signal that asks the program to save."""
        running = self._running.get(job)
        if running is not None:
            running.send(shim.ASK)

    def stop(self, job: str) -> None:
        """End the attempt: the shim ends every descendant, within its grace."""
        running = self._running.get(job)
        if running is not None:
            running.send(signal.SIGTERM)

    def _watch(
        self,
        job: str,
        directory: Path,
        fd: int,
        process: subprocess.Popen[bytes] | None,
        gone: Callable[[int | None], None],
    ) -> None:
        def fire() -> None:
            self._running.pop(job, None)
            task = asyncio.get_running_loop().create_task(finish(), name=f"finish-{job}")
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

        async def finish() -> None:
            gone(await asyncio.to_thread(_clean_up, directory, process))

        self._running[job] = pidfd.Watched(fd, fire)

    async def close(self) -> None:
        """Stop watching; what runs goes on."""
        for running in self._running.values():
            running.close()
        for process in self._children.values():
            let_go(process)
        for task in list(self._finishing):
            await task


def _spawn_shim(order: Order) -> subprocess.Popen[bytes]:
    private_directory(order.directory.parent, order.who)
    private_directory(order.directory, order.who)
    if not Path(order.cwd).is_dir():
        raise JobError(
            f"cannot start job {order.job}: its working directory does not exist",
            where=order.cwd,
            remedy="create it on this machine, or register the job with another cwd",
        )
    argv = [
        # By path and isolated: the job's PYTHONPATH, PYTHONHOME or cwd must not reach the shim.
        *(sys.executable, "-I", "-S", shim.__file__),
        *("--directory", str(order.directory), "--grace", str(order.grace)),
        *(() if order.ask_signal is None else ("--ask-signal", str(order.ask_signal))),
        *(() if order.env_file is None else ("--env-file", order.env_file)),
        *(() if order.env_command is None else ("--env-command", order.env_command)),
        *("--", *order.argv),
    ]
    return spawn(
        argv,
        order.who,
        cwd=order.cwd,
        env={**order.env, leftovers.MARK: str(order.directory)},
        output=order.directory / "output.log",
    )


def _clean_up(directory: Path, process: subprocess.Popen[bytes] | None) -> int | None:
    """Reap the shim, end what a killed shim left behind, and tell the recorded status."""
    if process is not None:
        process.wait()
    leftovers.end(directory)
    return recorded_status(directory)
