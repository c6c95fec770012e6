"""A receipt from the notice on one machine to the first step on the next."""

from __future__ import annotations

from typing import Any

import pytest

from spotwatchd.core.actions import JobSettled
from spotwatchd.core.words import MachineAction, Notice, Settlement
from spotwatchd.engine import text
from spotwatchd.engine.receipts import Receipts

NOTICE = Notice("ec2-spot", MachineAction.TERMINATE, 100.0, "key", "2026-11-21T14:32:07Z")


def _forget(_key: str, _document: dict[str, Any]) -> None:
    """Nobody keeps it."""


def _marks(document: dict[str, Any] | None) -> list[str]:
    assert document is not None
    return [each["mark"] for each in document["marks"]]


def _settled(settlement: Settlement = Settlement.COMMITTED, step: int | None = 40) -> JobSettled:
    return JobSettled(1, "job", settlement, "why", step)


def test_it_travels_and_is_completed_elsewhere() -> None:
    """What the first machine wrote is there on the second, which adds its own marks."""
    kept: dict[str, Any] = {}
    here = Receipts(kept.__setitem__, "A")
    here.begin(1, NOTICE, "job", step=30)
    here.mark("job", "asked", "1 process")
    here.settle(_settled(), 12.5, 40)
    luggage = here.travelling("job")
    there = Receipts(_forget, "B")
    there.arrived("job", luggage)
    assert there.mark("job", "resumed") is not None
    done = there.close("job")
    assert _marks(done) == ["notice visible", "asked", "resumed"]
    assert done is not None
    assert (done["machine"], done["resumed_on"], done["spare_seconds"]) == ("A", "B", 12.5)
    assert kept[done["id"]]["lost_steps"] == 0


@pytest.mark.parametrize(
    ("reached", "saved", "lost"), [(40, 40, 0), (45, 40, 5), (45, None, 45), (None, 40, None)]
)
def test_lost_steps_are_what_was_reached_and_not_saved(
    reached: int | None, saved: int | None, lost: int | None
) -> None:
    """Unknown stays unknown; nothing saved loses everything."""
    kept: dict[str, Any] = {}
    receipts = Receipts(kept.__setitem__, "A")
    receipts.begin(1, NOTICE, "job", step=None)
    receipts.settle(_settled(Settlement.ABANDONED, saved), 0.0, reached)
    (document,) = kept.values()
    assert document["lost_steps"] == lost
    assert document["outcome"] == "abandoned"


def test_a_mark_is_made_once() -> None:
    """The first time counts; a repeated event does not move it."""
    receipts = Receipts(_forget, "A")
    receipts.begin(1, NOTICE, "job", step=None)
    assert receipts.mark("job", "sealed") is not None
    assert receipts.mark("job", "sealed") is None
    assert receipts.mark("other", "sealed") is None


@pytest.mark.parametrize(
    "garbage", [None, "x", [], {}, {"seen": "now"}, {"seen": 1.0}, {"seen": 1.0, "marks": 3}]
)
def test_garbage_from_the_store_is_no_receipt(garbage: Any) -> None:
    """Head is not trusted: what is not a receipt changes nothing."""
    receipts = Receipts(_forget, "B")
    receipts.arrived("job", garbage)
    assert receipts.close("job") is None


def test_death_without_a_notice_has_a_receipt_of_its_own() -> None:
    """It names the machine that died and says what was lost."""
    kept: dict[str, Any] = {}
    Receipts(kept.__setitem__, "B").unannounced("job", "A", 40)
    (document,) = kept.values()
    assert (document["outcome"], document["machine"], document["step"]) == ("unannounced", "A", 40)
    assert "notice" in document["reason"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (4.2, "4.2 s"), (59.4, "59 s"), (108, "1 min 48 s"), (420, "7 min")],
)
def test_durations_are_said_with_their_unit(seconds: float, words: str) -> None:
    """As a person says them."""
    assert text.span(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12 B"), (452_600, "452.6 kB"), (3_100_000_000, "3.1 GB")]
)
def test_sizes_are_said_with_their_unit(count: int, words: str) -> None:
    """As a person says them."""
    assert text.size(count) == words


def test_a_notice_is_one_sentence() -> None:
    """Who, when, what, and how long there is."""
    line = text.noticed(NOTICE, 108.0, 1_795_271_419.0)
    assert line.startswith("EC2 takes this machine back at ")
    assert line.endswith("(terminate, 1 min 48 s left)")
