"""What people want of a job: the field ``wanted`` of head.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spotwatchd.core.fields import Fields

RUNNING, STOPPED, REMOVED = WORDS = ("running", "stopped", "removed")


@dataclass(frozen=True)
class Wanted:
    """A wish of a person, as it stands in head.

    Attributes:
        state: ``running``, ``stopped`` or ``removed``.
        generation: of head when it was said. A wish to run outdates an end of this
            generation (and of ones before it), of no later one.
        over: of ``running``: the end that it outdates. The end that stood in head, or
            ``stopped`` for a stop that is on its way.
        token: never the same twice: a writer that got no answer finds its own wish by it.
        save: of ``stopped``: the job may save before it ends.
        by: who said so, ``user@host``, for people.
        at: when, wall clock, for people.
    """

    state: str
    generation: int
    token: str
    over: str = STOPPED
    save: bool = True
    by: str = ""
    at: str = ""

    def document(self) -> dict[str, Any]:
        """As stored, and as the replicator tells the daemon."""
        return {
            "state": self.state,
            "generation": self.generation,
            "token": self.token,
            "over": self.over,
            "save": self.save,
            "by": self.by,
            "at": self.at,
        }


def parse_wanted(fields: Fields) -> Wanted | None:
    """The field ``wanted`` of head, None where nobody wanted anything. Raises Damaged."""
    if fields.raw.get("wanted") is None:
        return None
    wish = fields.child("wanted")
    return Wanted(
        state=wish.word("state", WORDS),
        generation=wish.number("generation"),
        token=wish.text("token"),
        over=wish.text("over"),
        save=wish.flag("save"),
        by=wish.text("by", ""),
        at=wish.text("at", ""),
    )
