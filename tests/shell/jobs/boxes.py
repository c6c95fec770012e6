"""Containers without an engine: unshare(1) as root, or as anybody with root mapped to them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Says its own pid, has a child that ignores SIGTERM, and waits.
_LIFE = "sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & echo up; sleep 600"


class Box:
    """A pid and mount namespace with root inside and a few processes."""

    def __init__(self, *, user: bool, cgroup: Path | None = None) -> None:
        """``user``: not as root, with ``--user --map-root-user``."""
        enter = "" if cgroup is None else f"echo 0 > {cgroup}/cgroup.procs; "
        words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"]
        words += ["--user", "--map-root-user"] if user else []
        # Like an engine's: a child of somebody else, whose death ends nothing.
        self._engine = subprocess.Popen(
            [*words, "sh", "-c", enter + _LIFE],
            stdout=subprocess.PIPE,
            user=1 if user and os.geteuid() == 0 else None,
            cwd="/",
        )
        assert self._engine.stdout is not None
        assert self._engine.stdout.readline() == b"up\n"
        (self.pid,) = _children(self._engine.pid)

    def pids(self) -> list[int]:
        """All its processes, as seen from here."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += _children(pid)
        return [pid for pid in found if lives(pid)]

    def close(self) -> None:
        """End it and reap."""
        if lives(self.pid):
            os.kill(self.pid, 9)
        self._engine.wait(20)
        assert self._engine.stdout is not None
        self._engine.stdout.close()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def lives(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def eventually(condition: Callable[[], bool], what: str, limit: float = 20.0) -> None:
    """Poll until it is true."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit:g} s: {what}"
        time.sleep(0.01)


def plain_process() -> subprocess.Popen[bytes]:
    """One that is in no container."""
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
