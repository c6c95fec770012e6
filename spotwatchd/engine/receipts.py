"""Receipts: what each interruption did to each job, from notice to first resumed step.

A receipt begins on the machine that goes away, travels in the job's head document with
the last commit or the release, and is completed on the machine that resumes the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spotwatchd.core.actions import JobSettled
from spotwatchd.core.words import Notice
from spotwatchd.engine.broadcast import wall_text

Document = dict[str, Any]
_DECISIONS = 8  # the receipt travels in head: it stays small


@dataclass
class _Open:
    document: Document
    seen: float  # wall clock, seconds


class Receipts:
    """The receipts that are still being written, by job."""

    def __init__(self, keep: Callable[[str, Document], None], machine: str) -> None:
        """Set up.

        Args:
            keep: journals a receipt under its id (called at every change).
            machine: name of this machine.
        """
        self._keep = keep
        self._machine = machine
        self._open: dict[str, _Open] = {}

    def begin(
        self,
        drain: int,
        notice: Notice,
        job: str,
        *,
        step: int | None,
        resume_command: str | None = None,
    ) -> None:
        """A notice is seen while ``job`` is here; ``resume_command``: how a person goes on."""
        now = time.time()
        document: Document = {
            "id": f"{self._machine}-{drain}-{job}",
            "job": job,
            "machine": self._machine,
            "notice": {
                "source": notice.source,
                "action": notice.action.value,
                "told": notice.told,
                "seen_at": wall_text(now),
            },
            "seen": now,
            "marks": [{"mark": "notice visible", "seconds": 0.0, "text": ""}],
            "decisions": [],
            "outcome": None,
            "step": step,
            "lost_steps": None,
            "spare_seconds": None,
            "reason": "",
            "resume_command": resume_command,
        }
        self._open[job] = _Open(document, now)
        self._keep(document["id"], document)

    def mark(self, job: str, mark: str, text: str = "") -> float | None:
        """Note that something happened now; once per mark. Seconds since the notice."""
        entry = self._open.get(job)
        if entry is None or any(each["mark"] == mark for each in entry.document["marks"]):
            return None
        seconds = round(time.time() - entry.seen, 3)
        entry.document["marks"].append({"mark": mark, "seconds": seconds, "text": text})
        self._keep(entry.document["id"], entry.document)
        return seconds

    def decide(self, job: str, line: str) -> None:
        """Note what the budget decided for the job, with its figures."""
        entry = self._open.get(job)
        if entry is None or entry.document["outcome"] is not None:
            return
        decisions = entry.document["decisions"]
        if len(decisions) < _DECISIONS:
            seconds = round(time.time() - entry.seen, 3)
            decisions.append({"seconds": seconds, "text": line})
            self._keep(entry.document["id"], entry.document)

    def settle(self, action: JobSettled, spare: float, reached: int | None) -> None:
        """The drain is over for the job."""
        entry = self._open.get(action.job)
        if entry is None:
            return
        entry.document.update(
            outcome=action.settlement.value,
            reason=action.reason,
            step=action.step,
            spare_seconds=round(spare, 3),
            lost_steps=_lost(reached, action.step),
        )
        self._keep(entry.document["id"], entry.document)

    def travelling(self, job: str) -> Document | None:
        """What the next machine must know of the interruption, or None."""
        entry = self._open.get(job)
        return None if entry is None else dict(entry.document)

    def arrived(self, job: str, document: Any) -> None:
        """The job was taken and its head tells of an interruption."""
        if not isinstance(document, dict) or not isinstance(document.get("seen"), (int, float)):
            return
        if not isinstance(document.get("marks"), list) or not document.get("id"):
            return
        document = {**document, "resumed_on": self._machine}
        if not isinstance(document.get("decisions"), list):
            document["decisions"] = []
        self._open[job] = _Open(document, float(document["seen"]))

    def unannounced(self, job: str, previous: str | None, step: int | None) -> None:
        """The job was taken over from a machine that died without a word."""
        now = time.time()
        document: Document = {
            "id": f"{previous or 'unknown'}-{now:.0f}-{job}",
            "job": job,
            "machine": previous,
            "resumed_on": self._machine,
            "notice": {"source": "none", "action": "none", "told": "", "seen_at": wall_text(now)},
            "seen": now,
            "marks": [],
            "decisions": [],
            "outcome": "unannounced",
            "step": step,
            "lost_steps": None,
            "spare_seconds": None,
            "reason": "the machine ended without a notice: what it computed after its last "
            "committed checkpoint is computed again",
        }
        self._open[job] = _Open(document, now)
        self._keep(document["id"], document)

    def close(self, job: str) -> Document | None:
        """The first step after the resume: the receipt is complete. Returns it."""
        entry = self._open.pop(job, None)
        return None if entry is None else entry.document


def _lost(reached: int | None, saved: int | None) -> int | None:
    if reached is None:
        return None
    return max(0, reached - (saved if saved is not None else 0))
