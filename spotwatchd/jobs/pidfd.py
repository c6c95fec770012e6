"""Handles of processes that cannot be mistaken for a later one with the same number."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

from spotwatchd.jobs.shim import start_ticks


def open_checked(pid: int, started: int) -> int | None:
    """A pidfd of ``pid`` if it is still the process that started at ``started`` ticks.

    The start time is read after the pidfd is open: from then on the number cannot be
    reused behind our back, so an equal start time proves identity.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        if start_ticks(pid) == started:
            return fd
    except (OSError, ValueError, IndexError):
        pass
    os.close(fd)
    return None


def send(fd: int, number: int) -> bool:
    """Signal the process behind ``fd``; False when it is gone or not ours to signal."""
    try:
        signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Watched:
    """Calls back once in the event loop when the process behind ``fd`` is gone.

    Owns ``fd``.
    """

    def __init__(self, fd: int, gone: Callable[[], None]) -> None:
        self.fd = fd
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._fire)

    def _fire(self) -> None:
        self.close()
        self._gone()

    def send(self, number: int) -> bool:
        """Signal it; False when it is gone or not ours to signal."""
        return self.fd >= 0 and send(self.fd, number)

    def close(self) -> None:
        """Stop watching."""
        if self.fd < 0:
            return
        self._loop.remove_reader(self.fd)
        with contextlib.suppress(OSError):
            os.close(self.fd)
        self.fd = -1
