"""An owner that is killed by SIGKILL at the N-th thing it does to a file system.

    killer.py BASE FIRST EVERY HOW

For N = FIRST, FIRST + EVERY, ... a child takes a job, commits, sweeps and gives it back on a
directory store, and kills itself just before its N-th change of a file system: store and
checkpoint directory alike (an audit hook counts them). Another child then goes on in the way
HOW says: "restart" (same boot), "reboot" (empty runtime directory, another boot) or
"elsewhere" (another machine with an empty disk). The parent looks at the result and prints
what is wrong; it prints nothing when all is well. Ends with the first N that the child outlives.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spotwatchd.errors import SpotwatchError
from spotwatchd.store.base import Backend
from spotwatchd.store.init import init_store
from spotwatchd.store.jobs import restore_to
from spotwatchd.store.layout import checkpoints_prefix
from spotwatchd.store.open import open_backend
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import JOB, Place, head_of, holds, save, steps

CHANGES = frozenset(
    ["os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.rmtree", "os.truncate"]
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Counter:
    """Counts changes; kills at the chosen one."""

    def __init__(self) -> None:
        self.left: int | None = None
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: Any) -> None:
        """See sys.addaudithook."""
        if self.left is None:
            return
        if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITES):
            self.left -= 1
            if self.left == 0:
                signal.pthread_kill(threading.get_ident(), signal.SIGKILL)


COUNTER = Counter()


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a fork; returns the wait status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:  # noqa: BLE001 - reported by the parent
            print(f"  child: {error!r}", flush=True)
        os._exit(status)
    return os.waitpid(pid, 0)[1]


def first_life(machine: Place, backend: Backend, done: Path, at: int) -> None:
    """Take, commit three times with retention, sweep, give back; killed on the way."""
    COUNTER.left = at
    hands = Hands(machine, backend)
    hands.custody.adopt()
    hands.take()
    for step in (10, 20, 30):
        with uncounted():
            seal = save(machine.checkpoints, step)
        hands.custody.local.scan()
        hands.commit_seal(seal)
        with uncounted(), done.open("a") as file:
            file.write(f"{step}\n")
        hands.sweeper.run()
    hands.release()


class uncounted:  # noqa: N801 - used like contextlib's
    """What the job and the test do is not what is killed."""

    def __enter__(self) -> None:
        self.left, COUNTER.left = COUNTER.left, None

    def __exit__(self, *_: object) -> None:
        COUNTER.left = self.left


def second_life(machine: Place, backend: Backend) -> None:
    """Go on, whatever was found; commit what is sealed here and one more."""
    hands = Hands(machine, backend)
    hands.custody.adopt()
    hands.take()
    hands.custody.local.scan()
    newest = hands.custody.local.newest()
    if newest is not None:
        hands.commit_seal(newest)
    hands.commit(40)
    for _ in range(3):
        hands.sweeper.run()
    hands.release()


def faults(machine: Place, backend: Backend, done: Path, scratch: Path) -> list[str]:
    """What is wrong after the second life."""
    found = []
    said = [int(line) for line in done.read_text().split()] if done.exists() else []
    listed = steps(backend)
    if listed != sorted(set(listed)) or listed[-1] != 40 or len(listed) > 2:
        found.append(f"head lists {listed} after commits of {said}")
    if said and len(listed) < 2:
        found.append(f"a committed checkpoint is lost: head lists {listed}, {said} were committed")
    for step in listed:
        restore_to(backend, JOB, scratch, step)
        if not holds(scratch, step):
            found.append(f"step {step} differs")
    there = {info.key.split("/")[2] for info in backend.objects(checkpoints_prefix(JOB))}
    wanted = {str(entry.id) for entry in head_of(backend).checkpoints}
    if there != wanted:
        found.append(f"strays in the store: {sorted(there - wanted)}")
    hidden = [p.name for p in machine.checkpoints.iterdir() if p.name.startswith((".res", ".dis"))]
    return found + [f"left on disk: {name}" for name in hidden]


def between(backend: Backend, done: Path, scratch: Path) -> list[str]:
    """What is wrong right after the kill: what was committed must be restorable now."""
    said = [int(line) for line in done.read_text().split()] if done.exists() else []
    try:
        newest = restore_to(backend, JOB, scratch).step
    except SpotwatchError as error:
        return [f"{said} were committed and nothing restores: {error.what}"] if said else []
    return [] if newest >= max(said, default=0) else [f"only {newest} restores of {said}"]


def one(base: Path, at: int, how: str) -> tuple[bool, list[str]]:
    """One N. Returns whether the child was killed, and what is wrong."""
    root, done = base / "store", base / "done"
    root.mkdir(parents=True)
    init_store(f"file://{root}")
    backend = open_backend(f"file://{root}")
    # Nobody waits for the lease of the dead, except on another machine.
    seconds = 0.3 if how == "elsewhere" else 30.0
    settings = {"lease_seconds": seconds, "keep_last": 2, "grace_seconds": 0.0}
    machine = Place(base, f"file://{root}", "a", **settings)
    status = in_child(lambda: first_life(machine, backend, done, at))
    killed = os.WIFSIGNALED(status)
    wrong = [] if killed or status == 0 else ["the first life failed"]
    wrong += between(backend, done, base / "scratch")
    if how == "reboot":
        machine.forget_boot()
    if how == "elsewhere":
        machine = Place(base, f"file://{root}", "b", **settings)
    if in_child(lambda: second_life(machine, backend)) != 0:
        wrong.append("the second life failed")
    else:
        wrong += faults(machine, backend, done, base / "check")
    return killed, wrong


def main() -> int:
    """See the head of this file. Prints JSON: how many N, and what is wrong."""
    base, first, every, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    at, wrong = first, []
    while True:
        killed, found = one(base / str(at), at, how)
        wrong += [f"killed at {at}, then {how}: {each}" for each in found]
        shutil.rmtree(base / str(at))
        if not killed:
            break
        at += every
    print(json.dumps({"last": at, "wrong": wrong}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
