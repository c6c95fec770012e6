"""Process 1 of a rehearsed machine: everything started on it descends from this process.

With ``--user UID HOST`` everything on it runs as that user, in namespaces of its own: whoever
rehearses as root gets a machine where nobody is root, on the same files, with its own host name.
With ``--host HOST`` it gets the name alone, where the kernel lets an ordinary user do that.

Standard library only, started by path. Each line on stdin is a JSON object with ``argv``,
``env``, ``output``; the answer on stdout is the pid. Orphans are adopted and reaped, so that
the machine's whole life is one tree, and whoever kills the tree has killed the machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys

_CLONE_NEWUSER, _CLONE_NEWUTS = 0x10000000, 0x04000000  # <linux/sched.h>
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


def become(uid: int, host: str) -> None:
    """Be ``uid`` on ``host`` from now on, owning what the present user owns.

    Raises OSError where the kernel or a container's filter allows no user namespaces.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    outside, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWUTS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    for name, text in (
        ("setgroups", "deny"),  # or the kernel does not let us write the next one
        ("gid_map", f"{uid} {group} 1"),
        ("uid_map", f"{uid} {outside} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - this file stands alone
            file.write(text)
    socket.sethostname(host)


def _may_become(uid: int, host: str) -> bool:
    """Try it in another process: half of it done cannot be undone."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        become(uid, host)
    except OSError:
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Serve until stdin is closed."""
    if sys.argv[1:2] == ["--user"]:
        become(int(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["--host"] and _may_become(os.geteuid(), sys.argv[2]):
        become(os.geteuid(), sys.argv[2])
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
