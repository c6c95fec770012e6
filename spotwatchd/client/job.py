"""The job as its own process sees it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from spotwatchd.client.identity import Resume, identify, resume_from_environment
from spotwatchd.client.listener import Listener
from spotwatchd.client.registration import Registration
from spotwatchd.client.resume import find_resume
from spotwatchd.client.seals import Draft, mark_of, require_step, sweep
from spotwatchd.errors import JobError
from spotwatchd.wire.board import Ask
from spotwatchd.wire.seal import sealed_name, step_of


class Job:
    """What ``connect()`` returns. Use it from one thread, in the process that connected.

    Attributes:
        should_checkpoint: ``should_checkpoint() -> bool``: True from an ask until a checkpoint
            answers it. Made for the innermost loop: it reads one word of mapped memory, under
            100 ns and without a system call while a daemon is there.
        name: the job's name.
        checkpoint_dir: absolute path.
        rank, world_size: this process among those of the job.
    """

    def __init__(self, registration: Registration) -> None:
        who = registration.identity
        self.name = who.name
        self.checkpoint_dir = who.checkpoint_dir
        self.rank = who.rank
        self.world_size = who.world_size
        self._registration = registration
        self._listener = Listener(registration)
        self.should_checkpoint = self._listener.should_checkpoint
        self._resume: Resume | None = None
        self._sealed: set[int] = set()  # steps that this run wrote or resumed from
        self._last_step: int | None = None
        self._leaving = False
        self._told = 0  # the ask whose answer the daemon has confirmed
        self._swept = False

    # -- what is asked -------------------------------------------------------------------

    @property
    def ask(self) -> Ask | None:
        """The newest ask that was not withdrawn, answered by this process or not."""
        return self._listener.current()

    @property
    def leaving(self) -> bool:
        """True when this process should end once it has saved.

        Stays true after the checkpoint that answered such an ask, so that a loop can save
        first and look afterwards.
        """
        ask = self.ask
        return self._leaving or (ask is not None and ask.leave)

    def deadline(self) -> float | None:
        """Seconds until the machine goes (negative when past); None without a deadline."""
        ask = self.ask
        return ask.seconds_left() if ask is not None else None

    # -- saving --------------------------------------------------------------------------

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """A directory to write the checkpoint of ``step`` into; sealed at clean exit.

        Sealed means: every file and directory flushed, renamed to ``step-...`` in one instant,
        and the daemon told. An exception removes what was written and seals nothing. If this
        run sealed (or resumed from) the same step already, that checkpoint answers the ask and
        what is written now is dropped; ``answer(step)`` tells beforehand.

        Raises:
            JobError: not a step, not rank 0, or called in a forked child.
            OSError: the disk refuses.
        """
        step = require_step(step)
        self._require_writer()
        began, ask = time.monotonic(), self._listener.current()
        draft = self._draft(step)
        try:
            yield draft.path
            if self.answer(step):
                draft.discard()
                return
            sealed = draft.seal()
        except BaseException:
            draft.discard()
            raise
        self._announce(sealed, step, ask, time.monotonic() - began)

    def answer(self, step: int) -> bool:
        """Let the checkpoint of ``step`` answer the present ask, if this run sealed it already.

        Returns True when there is nothing to write. A directory of the same step from another
        lineage (an older run that was not resumed from) does not count and is replaced.
        """
        step = require_step(step)
        sealed = self.checkpoint_dir / sealed_name(step)
        if step not in self._sealed or not sealed.is_dir():
            return False
        self._announce(sealed, step, self._listener.current(), None)
        return True

    def finish(self, step: int | None = None) -> None:
        """Tell the daemon that the job is really done and need not run again.

        Args:
            step: the last step; by default the last one sealed.
        """
        last = self._last_step if step is None else require_step(step)
        self._speak("finish", {"step": last, "rank": self.rank})

    def progress(self, step: int) -> None:
        """Tell the daemon which step is complete (the first after a resume ends its receipt)."""
        self._speak("progress", {"step": require_step(step), "rank": self.rank})

    # -- where to start ------------------------------------------------------------------

    def latest(self) -> Path | None:
        """The verified checkpoint to resume from, or None to start from the beginning.

        Chosen by the launcher, else by the daemon (waits while it restores), else, with no
        daemon there, the newest sealed directory on this disk.
        """
        if self._resume is None:
            self._resume = find_resume(self._registration)
            if self._resume.path is not None:
                step = step_of(self._resume.path.name)
                self._sealed |= set() if step is None else {step}
            self._listener.refresh()
        return self._resume.path

    @property
    def attempt(self) -> int:
        """1, 2, ...: how often this run was started, on all machines."""
        return self._facts().attempt

    @property
    def resume_step(self) -> int | None:
        """The step of ``latest()``, or None."""
        return self._facts().step

    @property
    def cause(self) -> str:
        """Why this attempt runs: first, interruption, crash or restart."""
        return self._facts().cause

    @property
    def run_id(self) -> str:
        """The same for all attempts of a run (for experiment trackers); "" without a daemon."""
        return self._facts().run_id

    def close(self) -> None:
        """Forget the board; ``should_checkpoint()`` is False from now on."""
        self._listener.close()

    # -- below ---------------------------------------------------------------------------

    def _facts(self) -> Resume:
        self.latest()
        return self._resume or resume_from_environment()

    def _require_writer(self) -> None:
        if not self._registration.ours:
            raise JobError(
                "a forked process cannot save for its parent",
                where="job.checkpoint()",
                remedy="save in the process that called connect()",
            )
        if self.rank != 0:
            raise JobError(
                f"only rank 0 saves; this is rank {self.rank} of {self.world_size}",
                where="job.checkpoint()",
                remedy="call it when job.rank == 0",
            )

    def _draft(self, step: int) -> Draft:
        if not self._swept:
            self._swept = True
            sweep(self.checkpoint_dir)
        return Draft(self.checkpoint_dir, step)

    def _announce(self, sealed: Path, step: int, ask: Ask | None, seconds: float | None) -> None:
        # Only the ask that stood when the state was taken is answered: a later one wants more.
        # It is named to the daemon until a seal that names it was heard.
        self._sealed.add(step)
        self._last_step = step
        number = 0 if ask is None or ask.number == self._told else ask.number
        if ask is not None:
            self._leaving = ask.leave
            self._listener.answered(ask.number)
        body = {
            "phase": "sealed",
            "step": step,
            "path": sealed.name,
            "mark": mark_of(sealed),
            "ask": number,
            "seconds": seconds,
            "rank": self.rank,
            "world_size": self.world_size,
        }
        if self._speak("checkpoints", body) and number:
            self._told = number

    def _speak(self, word: str, body: dict[str, Any]) -> bool:
        heard = self._registration.say(word, body)
        self._listener.refresh()
        return heard


def connect(  # noqa: PLR0913 - settings, passed by name
    name: str | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    *,
    rank: int | None = None,
    world_size: int | None = None,
    socket: str | None = None,
    resume_command: str | None = None,
) -> Job:
    """Join the job that this process belongs to. Works without a daemon too.

    Under ``spotwatch run`` no argument is needed, and what the launcher says wins. Elsewhere,
    with a ``name``, the process registers itself with the daemon, if there is one.

    Args:
        name: the job's name; without a launcher and a name nobody is told of this process.
        checkpoint_dir: default ``./checkpoints/NAME``.
        rank: default $RANK, else 0.
        world_size: default $WORLD_SIZE, else 1.
        socket: the daemon's; default $SPOTWATCH_SOCKET, the system's, else the user's own.
        resume_command: for a process that registers itself (a notebook, a shell in tmux): what a
            person types on the next machine; status and receipts show it there, and it is written
            to the store. Default: how this process was started, or its notebook.

    Raises:
        ConfigError: the name cannot be a job's name, or $RANK is not a number. Never because
            of the daemon.
    """
    identity = identify(name, checkpoint_dir, rank, world_size, socket)
    if resume_command is not None:
        identity = replace(identity, resume_command=resume_command)
    registration = Registration(identity)
    registration.register()
    return Job(registration)
