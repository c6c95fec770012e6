"""Commands into deeds, deeds into events: one thread, one thing at a time, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from spotwatchd.core.code import Bundle, code_identity, parse_code
from spotwatchd.core.words import Seal
from spotwatchd.errors import Damaged, LeaseLost, SpotwatchError, StoreDenied, StoreUnavailable
from spotwatchd.store.code import publish
from spotwatchd.store.commands import Command, Waiting
from spotwatchd.store.custody import Custody
from spotwatchd.store.leasing import Waiting as LeaseWaiting
from spotwatchd.store.local_journal import seal_json
from spotwatchd.store.meter import Meter
from spotwatchd.store.outcomes import Taken
from spotwatchd.store.pace import Pace
from spotwatchd.store.patience import Cancelled, Patience
from spotwatchd.store.preparing import prepare
from spotwatchd.store.resuming import Tell
from spotwatchd.store.swap import boottime
from spotwatchd.store.watching import watch

# At most one line of progress in this time.
_PROGRESS_EVERY = 5.0
# A release that takes longer helps nobody: the lease runs out by itself.
_RELEASE_SECONDS = 30.0
# A daemon that restarts is back within this; after it the replicator goes on alone.
_ALONE_AFTER = 3.0
# A store that is away for less is not worth a word.
_TROUBLE_AFTER = 5.0

Say = Callable[[dict[str, Any]], None]


class Worker:
    """Carries out commands.

    Args:
        say: sends an event.
        away_for: seconds since a daemon was connected.
        settled: called after each take and commit (the sweeper looks then).

    Attributes:
        enter, leave: called in the worker's thread around what moves a checkpoint out. A take
            is not among it: no training is there that it could disturb.
    """

    def __init__(
        self,
        custody: Custody,
        say: Say,
        tell: Tell,
        away_for: Callable[[], float],
        settled: Callable[[], None],
    ) -> None:
        self.custody = custody
        self.pace = Pace(custody.job.upload_limit)
        self.commands = Waiting()
        self.quitting = False
        self.enter: Callable[[], None] = lambda: None
        self.leave: Callable[[], None] = lambda: None
        self.ending: Callable[[], None] = lambda: None  # called before an attempt is released
        self.ready = threading.Event()  # it is known whether an earlier tenure goes on
        self._say = say
        self._tell = tell
        self._away_for = away_for
        self._settled = settled
        self._probed = False
        self._loose: Command | None = None
        self._told_waiting = float("-inf")
        self._trouble_since: float | None = None
        self._prepared: dict[str, Any] = {}  # the newest answer to a prepare

    def run(self) -> None:
        """Work until told to quit and idle."""
        self._adopt()
        self.ready.set()
        while not (self.quitting and self.commands.idle):
            command = self.commands.next(0.5) or self._own_accord()
            if command is not None:
                self._do(command)
                self.commands.done()

    def _adopt(self) -> None:
        limits = Patience(trouble=self._trouble)
        try:
            if limits.retry(self.custody.adopt) and self.custody.taken is not None:
                self._tell.said(f"generation {self.custody.taken.generation} goes on")
        except LeaseLost as error:
            self._say({"event": "lost", "reason": error.what})
        except (SpotwatchError, OSError) as error:
            self._alarm(error)

    def _own_accord(self) -> Command | None:
        """The commit that the daemon cannot ask for because it is away."""
        if self._loose is None or self._away_for() < _ALONE_AFTER:
            return None
        return replace(self._loose, do="commit", deadline=None)

    def _do(self, command: Command) -> None:
        doing = {
            "take": self._take,
            "watch": self._watch,
            "prepare": self._prepare,
            "upload": self._upload,
            "commit": self._commit,
            "release": self._release,
        }.get(command.do)
        if doing is not None:
            self._trouble_since = None
            moving = command.do in ("upload", "commit")
            if moving:
                self.enter()
            doing(command)
            if moving:
                self.leave()

    # ------------------------------------------------------------------ take

    def _take(self, command: Command) -> None:
        limits = Patience(cancelled=command.cancelled, trouble=self._trouble)
        try:
            self._make_known(limits)
            taken = self.custody.take(limits, lambda waiting: self._tell_waiting(command, waiting))
        except (SpotwatchError, OSError) as error:
            self._failed("take_failed", command, error)
            return
        self._say({"event": "taken", "no": command.no, **_taken_json(taken)})
        if taken.uncommitted and taken.restored is not None:
            self._say({"event": "sealed", "seal": seal_json(taken.restored)})
        self._settled()

    def _make_known(self, limits: Patience) -> None:
        if not self._probed:
            limits.retry(self.custody.backend.probe)
            self._probed = True
        self._publish(limits)

    def _watch(self, command: Command) -> None:
        limits = Patience(cancelled=command.cancelled, trouble=self._trouble, still=self._stays)
        try:
            if command.fresh:
                self._make_known(limits)
            watch(
                self.custody,
                limits,
                lambda elsewhere, ended: self._say(
                    {"event": "watched", "no": command.no, "elsewhere": elsewhere, "ended": ended}
                ),
                fresh=command.fresh,
            )
        except Cancelled:
            return
        except (SpotwatchError, OSError) as error:
            self._alarm(error)

    def _stays(self) -> None:
        if self.quitting:
            raise Cancelled("the replicator is told to quit")

    # ------------------------------------------------------------------ what else it needs

    def _publish(self, limits: Patience) -> None:
        """The code goes up before the spec that names it. Training does not wait for a remedy."""
        job = self.custody.job
        code = parse_code(job.spec.fields.get("code"), f"{job.name}: code")
        if job.bundle is None or not isinstance(code, Bundle):
            return
        limits.retry(self.custody.agree)
        if code_identity(self.custody.spec.fields.get("code")) != f"bundle {code.sha256}":
            return  # changed elsewhere: nobody would ever fetch it
        try:
            if publish(self.custody.backend, job.name, code, job.bundle, limits):
                self._tell.said(f"the code is in the store: {code.entries:,} files")
        except Damaged as error:
            self._alarm(error)

    def _prepare(self, command: Command) -> None:
        if self._prepared.get("no") != command.no:
            try:
                self._prepared = {"no": command.no, **self._readiness(command)}
            except Cancelled:
                return  # nobody waits for the answer
        self._say(self._prepared)

    def _readiness(self, command: Command) -> dict[str, Any]:
        limits = Patience(cancelled=command.cancelled, trouble=self._trouble)
        custody = self.custody
        try:
            job = replace(custody.job, spec=custody.spec)  # what was agreed on at the take
            ready = prepare(job, custody.backend, command.env, limits, here=command.here)
        except Cancelled:
            raise
        except (SpotwatchError, OSError) as error:
            if isinstance(error, Damaged | StoreDenied):
                self._alarm(error)
            return {"event": "blocked", **_told(error)}
        return {"event": "prepared", **asdict(ready)}

    def _tell_waiting(self, command: Command, waiting: LeaseWaiting) -> None:
        if boottime() - self._told_waiting < _PROGRESS_EVERY:
            return
        self._told_waiting = boottime()
        owner = (
            (waiting.owner.host or waiting.owner.machine) if waiting.owner else "an unknown owner"
        )
        self._say(
            {"event": "take_waiting", "no": command.no, "owner": owner, "seconds": waiting.seconds}
        )

    # ------------------------------------------------------------------ upload and commit

    def _limits(self, command: Command, meter: Meter) -> Patience:
        return Patience(
            command.deadline,
            command.cancelled,
            self._trouble,
            still=self.custody.leasing.held,
            flow=meter.spend,
        )

    def _meter(self, command: Command) -> Meter:
        event = {"event": "progress", "no": command.no}
        return Meter(
            self.pace,
            lambda sent, size: self._say({**event, "sent": sent, "size": size}),
            waiting=self.custody.backend.unsent,
        )

    def _upload(self, command: Command) -> None:
        assert command.seal is not None  # noqa: S101 - parse_command saw to it
        try:
            meter = self._meter(command)
            done = self.custody.upload(command.seal, self._limits(command, meter), meter)
        except (SpotwatchError, OSError) as error:
            self._failed("upload_failed", command, error)
            return
        self._loose = command
        self._say(
            {
                "event": "uploaded",
                "no": command.no,
                "size": done.size,
                "seconds": done.seconds,
                "files": len(done.files),
                "sent": done.sent,
            }
        )

    def _commit(self, command: Command) -> None:
        seal = command.seal
        assert seal is not None  # noqa: S101 - parse_command saw to it
        began = boottime()
        self._loose = None
        try:
            limits = self._limits(command, self._meter(command))
            done = self.custody.commit(seal, command.cause, command.interruption, limits)
        except (SpotwatchError, OSError) as error:
            self._failed("commit_failed", command, error)
            return
        self._say(
            {
                "event": "committed",
                "no": command.no,
                "seal": seal_json(seal),
                "checkpoint_id": done,
                "seconds": boottime() - began,
            }
        )
        self._settled()

    # ------------------------------------------------------------------ the rest

    def _release(self, command: Command) -> None:
        limits = Patience(boottime() + _RELEASE_SECONDS, command.cancelled, self._trouble)
        self._loose = None
        if self.custody.taken is not None:
            self.ending()
        try:
            self.custody.release(command.outcome, command.crashes, command.interruption, limits)
        except (SpotwatchError, OSError) as error:
            self._failed("release_failed", command, error)
            return
        self._say({"event": "released", "no": command.no})

    def _failed(self, event: str, command: Command, error: Exception) -> None:
        if isinstance(error, Cancelled) and command.do in ("upload", "commit"):
            return  # nobody waits for the answer
        if isinstance(error, StoreDenied):
            self._alarm(error)
        if isinstance(error, LeaseLost) and command.do != "take":
            self.lose(error)
        reason = error.what if isinstance(error, SpotwatchError) else str(error)
        message: dict[str, Any] = {"event": event, "no": command.no, "reason": reason}
        if command.do in ("upload", "commit"):
            message["final"] = isinstance(error, Damaged | OSError)
        self._say(message)

    def lose(self, error: LeaseLost) -> None:
        """Say once that the job is another's (any thread)."""
        if self.custody.taken is None:
            return
        self.custody.taken = None
        self._say({"event": "lost", "reason": error.what})
        self._tell.said(f"lost: {error.what}")

    def _trouble(self, error: StoreUnavailable) -> None:
        now = boottime()
        if self._trouble_since is None:
            self._trouble_since = now
        elif now - self._trouble_since >= _TROUBLE_AFTER:
            self._trouble_since = float("inf")  # once an operation
            self._alarm(error)

    def _alarm(self, error: Exception) -> None:
        known = isinstance(error, SpotwatchError)
        self._tell.alarm(error if known else SpotwatchError(str(error)))  # type: ignore[arg-type]


def _told(error: SpotwatchError | OSError) -> dict[str, str]:
    if isinstance(error, SpotwatchError):
        return {"what": error.what, "where": error.where, "remedy": error.remedy}
    return {
        "what": f"this machine's disk refuses the job's code: {error.strerror or error}",
        "where": str(error.filename or ""),
        "remedy": "free space, or remove what is in the way",
    }


def _taken_json(taken: Taken) -> dict[str, Any]:
    return {
        "generation": taken.generation,
        "restored": None if taken.restored is None else seal_json(taken.restored),
        "attempts": taken.attempts,
        "crashes": taken.crashes,
        "ended": taken.ended,
        "interruption": taken.interruption,
        "previous": taken.previous,
        "unannounced": taken.unannounced,
        "spec": taken.spec,
    }


def newest_committed(custody: Custody) -> Seal | None:
    """The newest checkpoint on local disk that is committed, for ``hello``."""
    done = [entry.seal for entry in custody.local.entries if entry.committed is not None]
    return done[-1] if done else None
