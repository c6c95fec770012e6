"""A replicator that stops or kills itself at a chosen call to its store.

    stepper.py --job FILE          with STEPPER="SIGNAL CALL KEYPART COUNT" in the environment

Before the COUNT-th call of Backend.CALL whose key contains KEYPART it sends SIGNAL to itself.
Everything else is the replicator as it is: the backend is handed to it from outside.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from spotwatchd.store.base import Backend
from spotwatchd.store.job_file import read_job_file
from spotwatchd.store.open import open_backend
from spotwatchd.store.replicator import Replicator, lock


class Stepper:
    """A backend that interrupts its caller once."""

    def __init__(self, backend: Backend, order: str) -> None:
        name, self._call, self._part, count = order.split()
        self._signal = signal.Signals[name]
        self._left = int(count)
        self._backend = backend
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        return self._watched(name, found) if name == self._call else found

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if any(self._part in str(arg) for arg in args):
                with self._lock:
                    self._left -= 1
                    if self._left == 0:
                        sys.stderr.write(f"{self._signal.name} before {name}\n")
                        # To this very thread: sent to the process, another one may take it,
                        # and this one goes on until that has happened.
                        signal.pthread_kill(threading.get_ident(), self._signal)
            return call(*args, **kwargs)

        return watched


def main() -> int:
    """Run it."""
    job = read_job_file(Path(sys.argv[2]))
    held = lock(job.runtime_dir)
    backend = Stepper(open_backend(job.store), os.environ["STEPPER"])
    try:
        return Replicator(job, cast("Backend", backend)).run()
    finally:
        os.close(held)


if __name__ == "__main__":
    sys.exit(main())
