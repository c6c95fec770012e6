"""The training loop's side of a checkpoint: when, what, and from where on."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from spotwatchd._torch import files, rng
from spotwatchd._torch.batches import Batches
from spotwatchd._torch.parts import collect, load_parts, require_stateful
from spotwatchd.client import Job, connect
from spotwatchd.errors import JobError

T = TypeVar("T")

EX_TEMPFAIL = 75  # sysexits.h: try again later
# After a save that the disk refused: long enough not to spend the time on failing saves.
_RETRY_AFTER = 10.0


class Stateful(Protocol):
    """Anything that can say and take back its state."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class Preempted(SystemExit):
    """Saved because the machine (or the operator) wants the process to end. Exit status 75.

    A SystemExit: ``finally`` blocks run, loggers flush, and ``except Exception`` lets it pass.

    Attributes:
        step: the step that was saved, from which the next attempt goes on.
    """

    def __init__(self, step: int) -> None:
        super().__init__(EX_TEMPFAIL)
        self.step = step


class Checkpointer:
    """Saves and restores the state of one training loop.

    Args:
        data: the loader, unless it is given to ``batches()``.
        job: as ``connect()`` returns it; by default ``connect()``.
        every_steps: save also after every so many steps; None: only when asked.
        stateful: what is trained, by name: model, optimizer, scheduler, scaler, EMA ...;
            anything with ``state_dict`` and ``load_state_dict``.

    Raises:
        JobError: a part has no state_dict/load_state_dict.
    """

    def __init__(
        self,
        *,
        data: Any = None,
        job: Job | None = None,
        every_steps: int | None = None,
        **stateful: Any,
    ) -> None:
        require_stateful(stateful)
        if every_steps is not None and every_steps < 1:
            raise JobError(f"every_steps={every_steps}", remedy="1 or more, or None")
        self.job = job if job is not None else connect()
        self._parts: dict[str, Stateful] = stateful
        self._data = data
        self._evaluations: WeakSet[Generator[Any, None, None]] = WeakSet()
        self._streams: dict[str, Batches[Any]] = {}
        self._every = every_steps
        self._step = 0  # newest complete step
        self._restored = False
        self._in_turn = False
        self._finished = False
        self._taken = 0  # batches taken when the turn began
        self._no_save_before = 0.0

    # -- the loop ------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The newest complete step; 0 before the first."""
        return self._step

    def steps(self, total: int, *, finish: bool = True) -> Iterator[int]:
        """Yield the number of each step that is still to do, up to ``total``.

        One turn of the loop is one optimizer step: after turn k, step k is complete, and
        numbers begin at 1. State is restored when the first turn is asked for. Between turns,
        and only there, a checkpoint is written when ``every_steps`` says so or the daemon asks.

        Args:
            total: the last step.
            finish: at the end, seal step ``total`` and report the job as done. With False call
                ``finish()`` yourself, after work that must be repeated if it is interrupted.

        Raises:
            Preempted: the daemon asked, the last complete step is sealed, the process is to end.
            Damaged, JobError: the checkpoint cannot be read or does not fit.
        """
        self._restore()
        first = True
        while self._step < total and not self._finished:
            self._begin_turn()
            yield self._step + 1
            self._end_turn()
            if first:
                first = False
                self.job.progress(self._step)
            if self._step < total and not self._finished:
                self._between_turns()
        self._end(finish)

    def batches(self, loader: Iterable[T] | None = None, *, replay: str = "exact") -> Batches[T]:
        """Iterate ``loader`` without end, remembering epoch and position.

        Args:
            loader: a DataLoader, anything with state_dict/load_state_dict, or anything that
                can be iterated again from the start; default ``data``.
            replay: "exact", or "order" (see docs/client.md) for a loader with workers.

        Raises:
            JobError: a bare iterator or generator: its position could not be found again.
        """
        if self._restored:
            raise JobError(
                "batches() was called after the first turn of steps()",
                where="Checkpointer.batches()",
                remedy="call it before the loop: its position is restored at the first turn",
            )
        source = self._data if loader is None else loader
        if source is None:
            raise JobError("no loader", where="batches()", remedy="ckpt.batches(loader)")
        stream: Batches[T] = Batches(source, replay=replay)
        self._streams[f"batches{len(self._streams)}"] = stream
        return stream

    def interruptible(self, iterable: Iterable[T]) -> Iterator[T]:
        """Iterate (an evaluation set) and leave in the middle when the machine goes.

        Belongs after the optimizer step of its turn, or before the turn's first batch. What it
        draws from the random generators leaves no trace in training. See docs/client.md for
        what is saved and what is not repeated.

        Raises:
            Preempted: as steps().
        """
        evaluation = self._evaluate(iterable)
        self._evaluations.add(evaluation)
        return evaluation

    def finish(self) -> None:
        """The job is really done (early stopping): seal what is there and end the loop.

        May be called in the loop, after the step that was the last one, or after it.

        Raises:
            OSError: the last step cannot be written; the job is not reported as done.
        """
        self._restore()
        self._finished = True
        self._conclude(self._step_now())

    def _conclude(self, step: int) -> None:
        if self.job.rank == 0:
            self._write(step, None)
            self.job.finish(step)

    # -- turns ---------------------------------------------------------------------------

    def _begin_turn(self) -> None:
        self._in_turn = True
        self._taken = self._taken_now()

    def _end_turn(self) -> None:
        for evaluation in list(self._evaluations):  # left by break, and somebody holds on to it
            evaluation.close()
        self._in_turn = False
        self._step += 1

    def _between_turns(self) -> None:
        asked = self.job.should_checkpoint()
        if asked or (self._every is not None and self._step % self._every == 0):
            self._save(self._step, leave=asked)

    def _end(self, finish: bool) -> None:
        if finish or self._finished:
            self._conclude(self._step)
        else:
            self._save(self._step, leave=self.job.should_checkpoint())

    def _evaluate(self, iterable: Iterable[T]) -> Generator[T, None, None]:
        before = rng.capture()
        with rng.aside():
            for item in iterable:
                # An ask to save and go on waits for the end of the turn, where a checkpoint is
                # exact whatever the rest of the turn does with the result of the evaluation.
                if self.job.should_checkpoint() and self.job.leaving:
                    self._save(self._step_now(), leave=True, random=before)
                yield item

    def _step_now(self) -> int:
        """The step that the state in memory stands for, inside a turn as well."""
        if not self._in_turn:
            return self._step
        trained = not self._streams or self._taken_now() > self._taken
        return self._step + 1 if trained else self._step

    def _taken_now(self) -> int:
        return sum(stream.taken for stream in self._streams.values())

    # -- saving --------------------------------------------------------------------------

    def _save(self, step: int, *, leave: bool, random: rng.State | None = None) -> None:
        # Other ranks end when rank 0 does (torchrun, the launcher): see docs/client.md.
        if self.job.rank != 0 or time.monotonic() < self._no_save_before:
            return
        try:
            self._write(step, random)
        except OSError as error:
            self._no_save_before = time.monotonic() + _RETRY_AFTER
            _tell(f"step {step} could not be saved, training goes on: {error}")
            return
        if leave and self.job.leaving:
            _tell(f"{self.job.name} saved step {step} and leaves")
            raise Preempted(step)

    def _write(self, step: int, random: rng.State | None) -> None:
        if self.job.answer(step):
            return
        state = self._state(rng.capture() if random is None else random)
        with self.job.checkpoint(step) as directory:
            files.write(directory, step, state, finished=self._finished)

    def _state(self, random: rng.State) -> dict[str, Any]:
        return {"parts": collect(self._parts), "data": collect(self._positions()), "rng": random}

    def _positions(self) -> dict[str, Stateful]:
        found: dict[str, Stateful] = dict(self._streams)
        if self._data is not None and not any(
            stream.loader is self._data for stream in self._streams.values()
        ):
            require_stateful({"data": self._data}, remedy="iterate it with ckpt.batches(loader)")
            found["data"] = self._data
        return found

    # -- restoring -----------------------------------------------------------------------

    def _restore(self) -> None:
        if self._restored:
            return
        positions = self._positions()
        self._restored = True
        path = self.job.latest()
        if path is not None:
            self._load(path, positions)

    def _load(self, path: Path, positions: dict[str, Stateful]) -> None:
        meta, state = files.read(path)
        load_parts(self._parts, state["parts"], path)
        load_parts(positions, state["data"], path)
        self._step = int(meta["step"])
        self._finished = bool(meta["finished"])
        if self.job.rank == 0:  # the saved generators are rank 0's
            rng.restore(state["rng"])


def _tell(line: str) -> None:
    print(f"spotwatch: {line}", file=sys.stderr, flush=True)
