"""The transitions, as data. The machine runs from these tables and the docs draw them.

Three machines: the life of a job on this machine, the way of one checkpoint to the
store, and the drain. What is not in a table cannot happen: ``follow`` raises, which
means a defect in the core, never a wrong input. Rules about *when* a cause arises live
beside the code that names it (rules.py, life.py, saving.py, drain.py).
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from spotwatchd.core.words import Life, Saving


class Phase(str, Enum):
    """Where the machine is with respect to notices."""

    CALM = "calm"  # no notice
    OPEN = "open"  # a notice, and jobs that are not settled
    CLOSED = "closed"  # every job is settled; the machine waits for its end


class IllegalMove(RuntimeError):
    """The core wanted a transition that is not in its table: a defect."""


LIFE: dict[tuple[Life, str], Life] = {
    (Life.WAITING, "take"): Life.TAKING,
    (Life.WAITING, "stop"): Life.DONE,
    (Life.WAITING, "ended elsewhere"): Life.DONE,
    (Life.WAITING, "hand back"): Life.RELEASING,
    (Life.TAKING, "taken"): Life.STARTING,
    (Life.TAKING, "taken, runs already"): Life.RUNNING,
    (Life.TAKING, "taken, ended"): Life.DONE,
    (Life.TAKING, "take failed"): Life.WAITING,
    (Life.TAKING, "hand back"): Life.RELEASING,
    (Life.STARTING, "started"): Life.RUNNING,
    (Life.STARTING, "start failed"): Life.RELEASING,
    (Life.STARTING, "start failed, fenced"): Life.WAITING,
    (Life.STARTING, "blocked"): Life.RELEASING,
    (Life.STARTING, "blocked, fenced"): Life.WAITING,
    (Life.STARTING, "exited"): Life.RELEASING,
    (Life.STARTING, "exited, fenced"): Life.WAITING,
    (Life.RUNNING, "stop"): Life.STOPPING,
    (Life.RUNNING, "exited"): Life.RELEASING,
    (Life.STOPPING, "exited"): Life.RELEASING,
    (Life.STOPPING, "exited, fenced"): Life.WAITING,
    (Life.RELEASING, "released"): Life.WAITING,
    (Life.RELEASING, "released, over"): Life.DONE,
    (Life.DONE, "added again"): Life.WAITING,
}

SAVING: dict[tuple[Saving, str], Saving] = {
    (Saving.IDLE, "ask"): Saving.ASKED,
    (Saving.IDLE, "sealed"): Saving.UPLOADING,
    (Saving.ASKED, "ask"): Saving.ASKED,
    (Saving.ASKED, "answered"): Saving.IDLE,
    (Saving.ASKED, "withdrawn"): Saving.IDLE,
    (Saving.ASKED, "sealed"): Saving.UPLOADING,
    (Saving.UPLOADING, "ask"): Saving.UPLOADING,
    (Saving.UPLOADING, "uploaded"): Saving.COMMITTING,
    (Saving.UPLOADING, "again"): Saving.UPLOADING,
    (Saving.COMMITTING, "ask"): Saving.COMMITTING,
    (Saving.COMMITTING, "again"): Saving.UPLOADING,
}
# However the way of one checkpoint ends, what comes next depends on what waits.
for _state in (Saving.UPLOADING, Saving.COMMITTING):
    for _end in ("committed", "failed", "dropped"):
        SAVING[_state, _end] = Saving.IDLE
        SAVING[_state, f"{_end}, still asked"] = Saving.ASKED
        SAVING[_state, f"{_end}, newer waits"] = Saving.UPLOADING
# A commit is short: it is never given up for a newer checkpoint.
del SAVING[Saving.COMMITTING, "dropped, newer waits"]

DRAIN: dict[tuple[Phase, str], Phase] = {
    (Phase.CALM, "notice"): Phase.OPEN,
    (Phase.OPEN, "all settled"): Phase.CLOSED,
    (Phase.CLOSED, "notice withdrawn"): Phase.CALM,
    (Phase.CLOSED, "machine outlived it"): Phase.CALM,
}

State = TypeVar("State", bound=Enum)


def follow(table: dict[tuple[State, str], State], state: State, cause: str) -> State:
    """The state after ``cause``. Raises IllegalMove when the table has no such arrow."""
    try:
        return table[state, cause]
    except KeyError:
        raise IllegalMove(f"{type(state).__name__} {state.value} has no arrow {cause!r}") from None
