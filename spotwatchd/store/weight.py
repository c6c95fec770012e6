"""How much the threads that move bytes count beside the training: little, or as much.

An unprivileged process may raise its nice value and never lower it again, so nice is left
alone. What it may change both ways, thread by thread, is SCHED_BATCH (the thread never takes
the CPU from one that just woke up) and the I/O priority, "idle" included (tried as uid 65534
on Linux 6). Not SCHED_IDLE: without RLIMIT_NICE nobody leaves it again (EPERM), and a thread
that is starved while it holds the interpreter's lock would starve the renewal of the lease.
For the same reason the threads that renew, sweep and talk to the daemon keep their weight.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading

# <linux/ioprio.h>: a class in the upper bits, a level of 0 (first) to 7 in the lower ones.
_WHO_PROCESS = 1
_CLASS_SHIFT = 13
_BEST_EFFORT, _IDLE = 2, 3
URGENT_IO = _BEST_EFFORT << _CLASS_SHIFT | 4  # what a process without a priority has
BACKGROUND_IO = _IDLE << _CLASS_SHIFT
# ioprio_set, ioprio_get: glibc has no functions for them (arch/*/include, unistd.h).
_CALLS = {"x86_64": (251, 252), "aarch64": (30, 31)}
_SHIPPING = "ship-"  # shipping.py's threads, which live for one upload


class Weight:
    """The weight of some threads, each of which calls ``enter`` at its begin. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[int] = set()
        self._urgent = False

    def enter(self) -> None:
        """The calling thread moves bytes. Threads that it starts inherit its weight."""
        with self._lock:
            self._threads.add(threading.get_native_id())
            _weigh(threading.get_native_id(), urgent=self._urgent)

    def leave(self) -> None:
        """The calling thread does something else now."""
        with self._lock:
            self._threads.discard(threading.get_native_id())
            _weigh(threading.get_native_id(), urgent=True)

    def set(self, *, urgent: bool) -> None:
        """Change the weight of all of them, and of those that they have started."""
        with self._lock:
            self._urgent = urgent
            living = {thread.native_id: thread.name for thread in threading.enumerate()}
            self._threads = {thread for thread in self._threads if thread in living}
            for thread, name in living.items():
                if thread is not None and (thread in self._threads or name.startswith(_SHIPPING)):
                    _weigh(thread, urgent=urgent)


def _weigh(thread: int, *, urgent: bool) -> None:
    policy = os.SCHED_OTHER if urgent else os.SCHED_BATCH
    # What is refused stays as it was: slower or heavier than wished, never wrong.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(thread, policy, os.sched_param(0))
    set_io_priority(thread, URGENT_IO if urgent else BACKGROUND_IO)


def set_io_priority(thread: int, priority: int) -> bool:
    """Returns whether the kernel took it. 0 is the calling thread."""
    call = _CALLS.get(platform.machine())
    if call is None:
        return False
    return _syscall(call[0], _WHO_PROCESS, thread, priority) == 0


def io_priority(thread: int) -> int | None:
    """What the kernel has noted for a thread; None: unknown."""
    call = _CALLS.get(platform.machine())
    found = -1 if call is None else _syscall(call[1], _WHO_PROCESS, thread)
    return None if found < 0 else found


def _syscall(*numbers: int) -> int:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return int(call(*(ctypes.c_long(number) for number in numbers)))
