"""A receipt from the notice on one machine to the first step on the next."""

from __future__ import annotations

from typing import Any

import pytest

from spotwatchd.core.actions import Choice, Decided, JobSettled
from spotwatchd.core.words import MachineAction, Notice, Settlement
from spotwatchd.engine import decisions, text
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


SEALED = Choice(step=500, size=12_100_000_000, ready=0.0, seconds=39.0, value=62.0, fits=True)
COMING = Choice(step=None, size=12_100_000_000, ready=8.0, seconds=39.0, value=420.0, fits=False)


def _decided(place: int, jobs: int, *choices: Choice) -> Decided:
    return Decided("job", place, jobs, 310e6, 61.0, choices)


def test_a_decision_is_told_with_its_figures() -> None:
    """What goes up, how large, how fast, how long of how long, and what it saves."""
    assert decisions.sentence(_decided(1, 2, SEALED, COMING)) == (
        "uploads step 500 first: 12.1 GB at 310.3 MB/s needs 39 s of 1 min 1 s, "
        "saves 1 min 2 s of work; the new checkpoint would not get through as well"
    )


def test_the_order_among_jobs_and_checkpoints_is_told() -> None:
    """Whose turn it is, and what follows."""
    later = Choice(step=None, size=1_000_000, ready=8.0, seconds=0.1, value=420.0, fits=True)
    line = decisions.sentence(_decided(2, 3, SEALED, later))
    assert line.startswith("uploads step 500 as number 2 of 3 jobs: ")
    assert "; then the new checkpoint: ready in 8.0 s, 1.0 MB at 10.0 MB/s needs 0.1 s" in line


def test_what_will_not_get_through_is_said() -> None:
    """With the figures that say so; a stall is called one."""
    line = decisions.sentence(_decided(0, 1, COMING))
    assert line.startswith("the new checkpoint is not expected to get through: ready in 8.0 s")
    stalled = Choice(step=7, size=5_000_000, ready=0.0, seconds=None, value=1.0, fits=False)
    assert "its upload stalls" in decisions.sentence(_decided(0, 0, stalled))


def test_decisions_are_kept_in_the_receipt_but_not_without_end() -> None:
    """It travels in head. What comes after the drain is over for the job is no part of it."""
    receipts = Receipts(_forget, "A")
    receipts.begin(1, NOTICE, "job", step=None)
    for number in range(50):
        receipts.decide("job", f"decision {number}")
    receipts.decide("other", "nobody's")
    document = receipts.travelling("job")
    assert document is not None
    assert [each["text"] for each in document["decisions"]] == [f"decision {n}" for n in range(8)]
    receipts.settle(_settled(), 1.0, 40)
    assert receipts.close("job") is not None


def test_garbage_for_decisions_from_the_store_is_none() -> None:
    """Head is not trusted."""
    receipts = Receipts(_forget, "B")
    document = {"seen": 1.0, "marks": [], "id": "x", "outcome": None, "decisions": "rm -rf"}
    receipts.arrived("job", document)
    receipts.decide("job", "here")
    done = receipts.close("job")
    assert done is not None
    assert [each["text"] for each in done["decisions"]] == ["here"]
