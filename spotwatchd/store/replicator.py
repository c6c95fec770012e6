"""The replicator of one job: ``python -m spotwatchd.store.replicator --job FILE``.

It outlives the daemon, renews the lease while the daemon is away, and finishes a commit
that was begun. Threads: commands and events (replicator_link.py), the worker (worker.py),
and here the renewer, the sweeper and the scan of the checkpoint directory. A defect in one
of them ends the process: the daemon starts another one, which goes on (Custody.adopt).

It ends by ``quit``, and when no daemon has been there for ten minutes and it holds nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from spotwatchd.errors import Damaged, LeaseLost, SpotwatchError, StoreDenied, StoreUnavailable
from spotwatchd.store.base import Backend
from spotwatchd.store.commands import parse_command
from spotwatchd.store.custody import Custody
from spotwatchd.store.follower import Follower
from spotwatchd.store.growth import MOST
from spotwatchd.store.heads import read_head
from spotwatchd.store.job_file import JobFile, read_job_file
from spotwatchd.store.local_journal import seal_json
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import OutOfTime, Patience
from spotwatchd.store.replicator_link import Link
from spotwatchd.store.shipping import warm
from spotwatchd.store.swap import boottime
from spotwatchd.store.sweep import Sweeper
from spotwatchd.store.tails import Tails
from spotwatchd.store.weight import Weight
from spotwatchd.store.wishing import Wishes
from spotwatchd.store.worker import Worker, newest_committed

ORPHAN_SECONDS = 600.0
# Without the state directory no daemon will ever come back for this job.
GONE_SECONDS = 5.0
_SCAN_EVERY = 1.0
_HELLO_WAITS = 3.0
# One core's worth is what a training can spare.
_THREADS_IN_BACKGROUND = 2
# A connection, TLS and credentials take well under a second; what is slower than this comes
# too late to help.
_WARM_SECONDS = 10.0
# A request of 256 KiB a job; a machine that dies unannounced loses this much of its story.
_OUTPUT_EVERY = 60.0
# Un-listed checkpoints wait for the grace period anyway; looking more often finds nothing.
_SWEEP_AT_LEAST = 0.1
_SWEEP_AT_MOST = 300.0


class Replicator:
    """Wires the parts together. Also what the parts tell people goes through here."""

    def __init__(self, job: JobFile, backend: Backend) -> None:
        self.job = job
        self.custody = Custody(job, backend, self)
        self.link = Link(job.socket, job.name, self._hello, self._receive, self._log)
        self._sweep = threading.Event()
        self.wishes = Wishes(self.custody, self.link.send)
        self._tails = Tails(backend, job.name, job.owner.machine, job.runtime_dir)
        self.worker = Worker(self.custody, self.link.send, self, self.link.away_for, self._settled)
        self.worker.ending = self._keep_output
        self._sweeper = Sweeper(
            backend, job.name, job.grace, self.custody.tenure, self.custody.in_progress
        )
        self._over = threading.Event()
        self._expiry_told = False
        self._urgent = False
        self._weight = Weight()
        self.follower = Follower(job, backend, self.custody, self.worker.pace, self)
        self.follower.enter = self._weight.enter
        self.worker.enter, self.worker.leave = self._weight.enter, self._weight.leave
        self.follower.busy = self.worker.commands.is_urgent
        self.custody.bringing.claim = self.follower.claim
        self.custody.bringing.threads = self._threads
        self._output_kept = boottime()

    def run(self) -> int:
        """Until it is told to quit. Returns the exit status."""
        threading.excepthook = _crash
        for body in (self._renew_forever, self._sweep_forever, self._scan_forever, self._orphan):
            threading.Thread(target=body, name=body.__name__, daemon=True).start()
        for body in (self._work, self.follower.run):
            threading.Thread(target=body, name=body.__name__, daemon=True).start()
        # The first hello should tell of a tenure that goes on, but not wait for a store.
        told = self.worker.ready.wait(_HELLO_WAITS)
        self.link.start()
        if not told:
            self.worker.ready.wait()
            self.link.greet()
        self._over.wait()
        self.link.drain(2.0)
        self.link.stop()
        return 0

    def _settled(self) -> None:
        self._sweep.set()
        self.wishes.look(self.custody.heads.head)

    def _keep_output(self) -> None:
        try:
            self._tails.upload()
        except (SpotwatchError, OSError) as error:
            self._log(f"its output could not be kept in the store: {error}")

    def _work(self) -> None:
        self.worker.run()
        self.follower.stop()
        self._over.set()

    def quit(self) -> None:
        """End when idle."""
        self.worker.quitting = True

    # ------------------------------------------------------------------ talking

    def alarm(self, error: SpotwatchError) -> None:
        """See resuming.Tell."""
        self._log(str(error))
        self.link.send(
            {"event": "alarm", "what": error.what, "where": error.where, "remedy": error.remedy}
        )

    def said(self, line: str) -> None:
        """See resuming.Tell."""
        self._log(line)
        self.link.send({"event": "said", "line": line})

    def say(self, event: dict[str, Any]) -> None:
        """See follower.Voice."""
        self.link.send(event)

    def log(self, line: str) -> None:
        """See follower.Voice."""
        self._log(line)

    def _log(self, line: str) -> None:
        sys.stderr.write(f"{self.job.name}  {line}\n")
        sys.stderr.flush()

    def _hello(self) -> dict[str, Any]:
        custody = self.custody
        taken, committed, sealed = custody.taken, newest_committed(custody), custody.local.newest()
        head = custody.heads.head
        return {
            "generation": taken.generation if taken else None,
            "committed": None if committed is None else seal_json(committed),
            "sealed": None if sealed is None else seal_json(sealed),
            "wanted": self.wishes.document(),
            "state": {
                "head": head.state if head else "",
                "attempts": head.attempts if head else 0,
                "crashes": head.crashes if head else 0,
                "lease_valid": custody.leasing.valid(),
                "busy": not self.worker.commands.idle,
                "pid": os.getpid(),
            },
        }

    def _receive(self, message: dict[str, Any]) -> None:
        try:
            command = parse_command(message)
        except Damaged as error:
            self._log(f"a command that makes no sense is ignored: {error.what}")
            return
        if command.do == "quit":
            self.quit()
        elif self.worker.quitting:
            return  # nobody is here to finish what would be begun
        elif command.do == "cancel":
            self.worker.commands.cancel(command.no)
        elif command.do == "weight":
            self._set_weight(urgent=command.level == "urgent")
        elif command.do == "pace":
            self.worker.pace.order(command.rate)
        else:
            if command.deadline is not None:
                self._set_weight(urgent=True)
            self.worker.commands.put(command)

    def _set_weight(self, *, urgent: bool) -> None:
        # At once, not in its turn: what is under way now is what is urgent.
        if urgent == self._urgent:
            return
        self._urgent = urgent
        self._weight.set(urgent=urgent)
        self.worker.pace.set_urgent(urgent=urgent)
        self.follower.hurry(urgent=urgent)
        if urgent:
            # Connections that stood idle for hours are closed by now.
            threading.Thread(target=self._warm, name="warm", daemon=True).start()

    def _warm(self) -> None:
        with contextlib.suppress(OutOfTime):
            warm(self.custody.backend, Patience(boottime() + _WARM_SECONDS))

    def _threads(self) -> int:
        return MOST if self._urgent else _THREADS_IN_BACKGROUND

    # ------------------------------------------------------------------ threads

    def _renew_forever(self) -> None:
        leasing, terms = self.custody.leasing, self.job.terms
        pause = terms.renew_every
        while not self._over.wait(pause):
            pause = min(terms.renew_every, 1.0)
            tenure = leasing.tenure
            if tenure is None or leasing.lost is not None:
                continue
            due = (tenure.sent_at or 0.0) + terms.renew_every
            if boottime() < due:
                pause = min(pause, due - boottime())
                continue
            try:
                leasing.renew()
                self._expiry_told = False
                self.wishes.look(read_head(self.custody.backend, self.job.name))
            except LeaseLost as error:
                self.worker.lose(error)
            except (StoreUnavailable, StoreDenied) as error:
                pause = terms.seconds / 10
                self._tell_expiry(error)
            except Damaged:
                continue  # head: the next commit repairs it
            self._output_now_and_then()

    def _output_now_and_then(self) -> None:
        """A machine that dies without a word has no last moment to keep its output in."""
        if self.custody.taken is not None and boottime() - self._output_kept > _OUTPUT_EVERY:
            self._output_kept = boottime()
            self._keep_output()

    def _tell_expiry(self, error: SpotwatchError) -> None:
        leasing = self.custody.leasing
        if leasing.valid() or self._expiry_told or self.custody.taken is None:
            return
        self._expiry_told = True
        if self.job.stop_on_lease_expiry:
            leasing.lost = LeaseLost(f"the lease ran out while the store was away: {error.what}")
            self.worker.lose(leasing.lost)
            return
        self.alarm(
            StoreUnavailable(
                f"the lease ran out while the store was away ({error.what}); training goes on, "
                "commits wait",
                where=error.where,
                remedy=error.remedy,
            )
        )

    def _sweep_forever(self) -> None:
        while not self._over.is_set():
            due = self._sweeper.next_run()
            wait = _SWEEP_AT_MOST if due is None else due - boottime()
            self._sweep.wait(min(_SWEEP_AT_MOST, max(_SWEEP_AT_LEAST, wait)))
            self._sweep.clear()
            try:
                for checkpoint in self._sweeper.run():
                    self._log(f"deleted {checkpoint} from the store")
            except LeaseLost:
                continue  # not ours (yet, or any more): not ours to clean
            except (StoreUnavailable, StoreDenied, Damaged) as error:
                self._log(f"cannot sweep: {error.what}")
                self._over.wait(min(self.job.terms.seconds, 5.0))

    def _scan_forever(self) -> None:
        while not self._over.wait(_SCAN_EVERY):
            try:
                found = self.custody.local.scan()
            except OSError as error:
                self._log(f"cannot look at {self.job.checkpoint_dir}: {error.strerror}")
                continue
            if self.custody.taken is not None:
                for seal in found:
                    self.link.send({"event": "sealed", "seal": seal_json(seal)})

    def _orphan(self) -> None:
        while not self._over.wait(1.0):
            if self.link.away_for() > GONE_SECONDS and not self.job.runtime_dir.exists():
                self._log("the daemon's state is gone: the end")
                self._over.set()
            if self.link.away_for() > ORPHAN_SECONDS and self.custody.leasing.tenure is None:
                self._log("no daemon for ten minutes and nothing held: the end")
                self._over.set()


def _crash(args: threading.ExceptHookArgs) -> None:
    traceback.print_exception(args.exc_type, args.exc_value, args.exc_traceback)
    sys.stderr.flush()
    os._exit(70)  # EX_SOFTWARE; no clean-up may hang a process that is broken


def lock(runtime_dir: Path) -> int:
    """Be the only replicator of the job on this machine, for the life of the process.

    Raises SpotwatchError when there is one already. Returns the descriptor to keep.
    """
    runtime_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = runtime_dir / "replicator.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SpotwatchError(
            "a replicator of this job runs already on this machine",
            where=str(path),
            remedy="nothing to do: one is enough",
        ) from error
    return descriptor


def main(arguments: list[str] | None = None) -> int:
    """The process. Returns the exit status: 0, or 1 with a reason on stderr."""
    parser = argparse.ArgumentParser(prog="replicator", description="Moves one job's checkpoints.")
    parser.add_argument("--job", type=Path, required=True, help="the job's document (JSON)")
    job_path = parser.parse_args(arguments).job
    try:
        job = read_job_file(job_path)
        held = lock(job.runtime_dir)
        replicator = Replicator(job, open_backend(job.store))
    except SpotwatchError as error:
        sys.stderr.write(f"replicator: {error}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda _number, _frame: replicator.quit())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is meant for the job
    try:
        return replicator.run()
    finally:
        os.close(held)


if __name__ == "__main__":
    sys.exit(main())
