"""Trees of processes, as the kernel shows them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def children(pid: int) -> list[int]:
    """Direct children of ``pid``; none when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Everything below ``pid``."""
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        child = waiting.pop()
        found.append(child)
        waiting += children(child)
    return found


def command(pid: int) -> str:
    """Its command line, "" when it is gone or a zombie."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def signal_all(pids: list[int], number: int) -> None:
    """Signal those that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def destroy(root: int) -> None:
    """End everything below ``root`` at one moment, as a machine that loses its power.

    All are stopped first, so that none can react to the end of another.
    """
    for _ in range(5):
        signal_all(descendants(root), signal.SIGSTOP)
    end = time.monotonic() + 20
    while living := [pid for pid in descendants(root) if command(pid)]:
        signal_all(living, signal.SIGKILL)
        if time.monotonic() > end:
            raise TimeoutError(f"processes survive SIGKILL: {living}")
        time.sleep(0.01)
