"""Process 1 of a rehearsed machine: everything started on it descends from this process.

Standard library only, started by path. Each line on stdin is a JSON object with ``argv``,
``env``, ``output``; the answer on stdout is the pid. Orphans are adopted and reaped, so that
the machine's whole life is one tree, and whoever kills the tree has killed the machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _start(order: dict[str, object]) -> int:
    with open(str(order["output"]), "ab") as output:  # noqa: PTH123 - this file stands alone
        process = subprocess.Popen(
            order["argv"],  # type: ignore[call-overload]
            env=order["env"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    pid = int(process.pid)
    process.returncode = 0  # reaped here, by _reap
    return pid


def main() -> None:
    """Serve until stdin is closed."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.2)
        _reap()
        if not readable:
            continue
        data = os.read(0, 1 << 20)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            sys.stdout.write(f"{_start(json.loads(line))}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
