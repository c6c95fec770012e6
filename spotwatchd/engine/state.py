"""How a job is, in one word for people and programs (docs/cli-json.md)."""

from __future__ import annotations

from spotwatchd.core.view import JobView
from spotwatchd.core.words import Life, Saving
from spotwatchd.engine.records import Kept

# Without an interruption; `life` in the job's document is finer.
_CALM = {
    Life.WAITING: "queued",
    Life.TAKING: "queued",
    Life.STARTING: "running",
    Life.RUNNING: "running",
    Life.STOPPING: "saving",
    Life.RELEASING: "saving",
}


def why(view: JobView | None, kept: Kept, state: str, go_on: str) -> dict[str, str | None]:
    """Why it is in that state, and what a person can do about it (``go_on`` if nothing else)."""
    room = view.queued if view is not None else None
    if view is not None and state == "blocked":
        later = f"; looked at again when there is room: {room.reason}" if room else ""
        return {"reason": view.blocked + later, "remedy": view.remedy}
    if room is not None:
        return {"reason": room.reason, "remedy": room.remedy}
    return {"reason": kept.reason, "remedy": go_on}


def state_of(view: JobView | None, kept: Kept, *, draining: bool) -> str:
    """One of running, queued, blocked, saving, interrupted, stopped, crashed, finished."""
    if view is None or view.life is Life.DONE:
        ended = kept.outcome or "stopped"
        return "interrupted" if ended == "preempted" else ended
    if view.blocked and view.life not in (Life.RUNNING, Life.STOPPING):
        return "blocked"
    if draining and view.life in (Life.WAITING, Life.TAKING):
        return "interrupted"
    if view.life is Life.RUNNING and kept.told and view.saving is not Saving.IDLE:
        return "saving"
    return _CALM[view.life]
