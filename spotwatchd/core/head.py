"""head.json: the one place that says what is committed and who may change it.

Unknown fields are kept when it is written again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spotwatchd.core.fields import Fields, dump, load
from spotwatchd.core.ids import CheckpointId, check_job, read_id
from spotwatchd.core.wanted import RUNNING, STOPPED, Wanted, parse_wanted

ENDED = ("finished", "crashed", "stopped")
STATES = ("running", "interrupted", *ENDED)


@dataclass(frozen=True)
class Listed:
    """A committed checkpoint. ``size`` in bytes, ``committed_at`` wall clock for people."""

    id: CheckpointId
    size: int
    committed_at: str
    cause: str


@dataclass(frozen=True)
class Quarantined:
    """A checkpoint that did not verify, and why."""

    id: CheckpointId
    reason: str
    at: str


@dataclass(frozen=True)
class Head:
    """head.json: the one place that says what is committed and who may change it.

    Attributes:
        tenure: see Lease; together with ``generation`` it is the fence.
        checkpoints: oldest first, in the order of their commits.
        retired: committed by runs before this one: never resumed from, and kept until
            retention has newer ones of this run to keep.
        wanted: what a person wants of the job, whoever owns it (core/intent.py).
        written_by: a nonce, fresh at each write: a writer whose answer was lost finds its own.
    """

    job: str
    run_id: str
    generation: int
    tenure: str = ""
    state: str = "running"
    attempts: int = 0
    crashes: int = 0
    checkpoints: tuple[Listed, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()
    interruption: dict[str, Any] | None = None
    written_by: str = ""
    retired: tuple[Listed, ...] = ()
    wanted: Wanted | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> str:
        """How the newest attempt ended for good, or "" when it did not."""
        return self.state if self.state in ENDED else ""

    @property
    def halted(self) -> str:
        """Why nobody may begin an attempt: finished, crashed or stopped; "" when one may.

        A wish comes first. One to run outdates the end that it was said about, no later one.
        """
        wish = self.wanted
        if wish is not None and wish.state != RUNNING:
            return STOPPED
        if wish is not None and wish.generation >= self.generation and wish.over == self.state:
            return ""
        return self.ended

    def lists(self, checkpoint: CheckpointId) -> bool:
        """Whether ``checkpoint`` is committed."""
        return any(entry.id == checkpoint for entry in self.checkpoints)

    def encode(self) -> bytes:
        """As stored."""
        return dump(
            {
                **self.extra,
                "job": self.job,
                "run_id": self.run_id,
                "generation": self.generation,
                "tenure": self.tenure,
                "state": self.state,
                "attempts": self.attempts,
                "crashes": self.crashes,
                "checkpoints": [_listed_json(entry) for entry in self.checkpoints],
                "quarantine": [_quarantined_json(entry) for entry in self.quarantine],
                "interruption": self.interruption,
                "written_by": self.written_by,
                "retired": [_listed_json(entry) for entry in self.retired],
                "wanted": None if self.wanted is None else self.wanted.document(),
            }
        )


def _listed_json(entry: Listed) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "step": entry.id.step,
        "size": entry.size,
        "committed_at": entry.committed_at,
        "cause": entry.cause,
    }


def _quarantined_json(entry: Quarantined) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "step": entry.id.step,
        "reason": entry.reason,
        "at": entry.at,
    }


_HEAD_FIELDS = frozenset(
    {
        *("version", "job", "run_id", "generation", "tenure", "state", "attempts", "crashes"),
        *("checkpoints", "quarantine", "interruption", "written_by", "retired", "wanted"),
    }
)


def parse_head(body: bytes, job: str, where: str) -> Head:
    """Read head.json. Raises Damaged, StoreDenied."""
    fields = load(body, where)
    check_job(fields, job)
    head = Head(
        job=job,
        run_id=fields.text("run_id"),
        generation=fields.number("generation"),
        tenure=fields.text("tenure", ""),
        state=fields.word("state", STATES),
        attempts=fields.number("attempts"),
        crashes=fields.number("crashes"),
        checkpoints=tuple(_listed(item) for item in fields.children("checkpoints")),
        quarantine=tuple(_quarantined(item) for item in fields.children("quarantine")),
        interruption=fields.mapping_or_none("interruption"),
        written_by=fields.text("written_by"),
        retired=_retired(fields),
        wanted=parse_wanted(fields),
        extra=fields.rest(_HEAD_FIELDS),
    )
    ids = [entry.id for entry in (*head.retired, *head.checkpoints)]
    if len(set(ids)) != len(ids) or any(i.generation > head.generation for i in ids):
        raise fields.bad("checkpoints", "each id once, none of a generation above head's")
    return head


def _listed(fields: Fields) -> Listed:
    return Listed(
        id=read_id(fields),
        size=fields.number("size"),
        committed_at=fields.text("committed_at", ""),
        cause=fields.text("cause", ""),
    )


def _retired(fields: Fields) -> tuple[Listed, ...]:
    listed = fields.children("retired") if fields.raw.get("retired") is not None else []
    return tuple(_listed(item) for item in listed)


def _quarantined(fields: Fields) -> Quarantined:
    return Quarantined(read_id(fields), fields.text("reason", ""), fields.text("at", ""))
