"""The budget as pure functions: estimates, the model of the link, the best set, the plan."""

from __future__ import annotations

import itertools
import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spotwatchd.core import budget
from spotwatchd.core.choice import choose
from spotwatchd.core.estimate import Estimate, robust
from spotwatchd.core.fluid import Item, saved, shares

RATE = 100.0
sizes = st.floats(1, 5000)
values = st.floats(1, 1000)


def item(
    job: str,
    size: float,
    value: float,
    *,
    order: int = 2,
    ready: float = 0.0,
    streams: bool = False,
    limit: float = math.inf,
) -> Item:
    """A checkpoint of which nothing was sent."""
    return Item(job, order, size, size, ready, streams, value, limit)


def plan(items: list[Item], left: float, *, spread: float = 0.0) -> budget.Plan:
    """Decide about items on a link of 100 bytes per second."""
    return budget.decide(items, Estimate(RATE, spread), left)


@st.composite
def machines(draw: st.DrawFn) -> list[Item]:
    """One to four jobs, each with a new checkpoint and perhaps one under way."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        job, size, value = f"j{number}", draw(sizes), draw(values)
        if draw(st.booleans()):
            part = draw(st.floats(0.01, 1))
            found.append(item(job, size * part, value * draw(st.floats(0.1, 1)), order=1))
        ready, streams = draw(st.floats(0, 40)), draw(st.booleans())
        found.append(item(job, size, value, ready=ready, streams=streams))
    return found


# -- estimates -------------------------------------------------------------------------------


def test_no_measurement_is_no_estimate() -> None:
    """Nobody guesses."""
    assert robust([]) is None


@pytest.mark.parametrize(
    ("samples", "middle", "spread"),
    [
        ([10.0], 10.0, 3.0),
        ([10.0, 10.0], 10.0, 1.5),
        ([10.0] * 5, 10.0, 0.0),
        ([9.0, 10.0, 11.0, 10.0, 1000.0], 10.0, 1.4826),
    ],
)
def test_few_samples_are_doubted_and_odd_ones_forgiven(
    samples: list[float], middle: float, spread: float
) -> None:
    """Median and median deviation; a single measurement may be 30 % off."""
    found = robust(samples)
    assert found is not None
    assert found.middle == middle
    assert found.spread == pytest.approx(spread)


# -- the model of the link -------------------------------------------------------------------


def test_the_link_is_shared_in_order_or_alike() -> None:
    """What one cannot use goes to the others."""
    assert shares([math.inf, 5.0], 10.0, fair=False) == [10.0, 0.0]
    assert shares([2.0, math.inf, math.inf], 10.0, fair=True) == [2.0, 4.0, 4.0]
    assert shares([3.0, math.inf], 10.0, fair=False) == [3.0, 7.0]


def test_a_file_that_grows_leaves_as_it_grows() -> None:
    """Max of writing and sending, not their sum."""
    assert saved([item("a", 1000, 1, ready=10, streams=True)], RATE, 10.001) == 1
    assert saved([item("a", 1000, 1, ready=10)], RATE, 19.9) == 0
    assert saved([item("a", 1000, 1, ready=10)], RATE, 20.001) == 1


def test_a_newer_checkpoint_supersedes_the_older_of_its_job() -> None:
    """Preferred, it takes the place of the older; else it comes after it."""
    old, new = item("a", 1000, 5, order=1), item("a", 1000, 9, order=2, ready=5)
    assert saved([new, old], RATE, 15.001) == 9
    assert saved([old, new], RATE, 15.001) == 5
    assert saved([old, new], RATE, 20.001) == 9
    assert saved([old, new], RATE, 20.001, commit=1.0) == 5


# -- the best set ----------------------------------------------------------------------------


def brute_force(items: list[Item], left: float) -> float:
    """Every set of at most one checkpoint per job that the model says gets through."""
    by_job: dict[str, list[Item | None]] = {}
    for each in items:
        by_job.setdefault(each.job, [None]).append(each)
    best = 0.0
    for combination in itertools.product(*by_job.values()):
        chosen = [each for each in combination if each is not None]
        worth = sum(each.value for each in chosen)
        if worth > best and saved(chosen, RATE, left) >= worth - 1e-6:
            best = worth
    return best


@given(items=machines(), left=st.floats(1, 60))
def test_the_best_set_is_found(items: list[Item], left: float) -> None:
    """No set that gets through is worth more, and what is chosen gets through.

    At the very edge the two may differ by rounding, hence a hair more or less time.
    """
    found = sum(each.value for each in choose(items, RATE, left))
    assert found >= brute_force(items, left * (1 - 1e-6)) - 1e-6
    assert found <= brute_force(items, left * (1 + 1e-6)) + 1e-6


# -- the plan --------------------------------------------------------------------------------


# Sharing alike saves both jobs; in order, the newer of j0 would keep j1 from it.
@example(items=[item("j0", 50, 1, order=1), item("j0", 50, 1), item("j1", 1, 1)], left=1.0)
@given(items=machines(), left=st.floats(1, 60))
def test_a_plan_is_never_worse_than_an_order_of_the_jobs_or_sharing(
    items: list[Item], left: float
) -> None:
    """With exact figures, by its own model: any order of jobs, olds first or not, all alike."""
    worth = plan(items, left).worth * (1 + 1e-6) + 1e-6
    jobs = sorted({each.job for each in items})
    assert saved(items, RATE, left * (1 - 1e-6), fair=True) <= worth
    for order in itertools.permutations(jobs):
        by_job = sorted(items, key=lambda each: (order.index(each.job), each.order))
        sealed_first = sorted(items, key=lambda each: (each.order, order.index(each.job)))
        assert saved(by_job, RATE, left * (1 - 1e-6)) <= worth
        assert saved(sealed_first, RATE, left * (1 - 1e-6)) <= worth


def test_what_fits_anyway_is_left_alone() -> None:
    """Nobody is held back when there is time for all."""
    made = plan([item("a", 1000, 5), item("b", 1000, 5)], 60)
    assert made.fair
    assert made.caps() == {"a": None, "b": None}


def test_one_that_gets_through_goes_before_two_that_do_not() -> None:
    """Side by side both would be late; the one that holds more work goes first."""
    made = plan([item("a", 1000, 5), item("b", 1000, 50)], 11)
    assert made.caps() == {"b": None, "a": 0.0}
    assert made.chosen == {("b", 2)}


def test_what_the_first_cannot_use_is_for_the_next() -> None:
    """A slow replicator, or a slow disk, leaves the rest of the link."""
    made = plan([item("a", 250, 50, limit=30), item("b", 1000, 5)], 11)
    assert made.caps() == {"a": None, "b": pytest.approx(72)}


def test_the_older_goes_first_when_the_newer_gets_through_all_the_same() -> None:
    """A bird in the hand; but not when it costs the newer one."""
    old, new = item("a", 900, 5, order=1), item("a", 1000, 9, ready=5)
    assert [each.order for each in plan([new, old], 30).order] == [1, 2]
    assert plan([new, old], 15.5).rank(("a", 2)) == 0


def test_the_order_in_force_stays_for_a_little() -> None:
    """Two jobs of nearly the same worth do not take turns."""
    items = [item("a", 1000, 50), item("b", 1000, 50.5)]
    free = budget.decide(items, Estimate(RATE, 0), 11)
    kept = budget.decide(items, Estimate(RATE, 0), 11, present=[("a", 2), ("b", 2)])
    assert (free.rank(("b", 2)), kept.rank(("a", 2))) == (0, 0)


def test_a_growing_file_and_a_sealed_one_of_one_job_share_its_cap() -> None:
    """So the upload that is not wanted rests while the growing file is sent."""
    old = item("a", 900, 5, order=1)
    new = item("a", 1000, 9, ready=5, streams=True)
    made = plan([new, old], 10.5)
    assert made.held() == {("a", 1)}
    assert made.caps() == {"a": None}


def test_doubt_prefers_what_is_surely_there_in_time() -> None:
    """The larger would just fit if all goes well; the smaller fits in any case."""
    items = [item("a", 1000, 60), item("b", 400, 50)]
    assert plan(items, 10.5).chosen == {("a", 2)}
    assert plan(items, 10.5, spread=30).rank(("b", 2)) == 0


def test_deciding_takes_little_time() -> None:
    """Eight jobs, everything in doubt: bounded work, far below a second on any machine."""
    items = []
    for number in range(8):
        size = 100.0 * 1.7**number
        items.append(item(f"j{number}", size / 2, 3.0 + number, order=1))
        items.append(item(f"j{number}", size, 10.0 + number, ready=number, streams=number % 2 == 0))
    begun = time.process_time()
    made = plan(items, 40, spread=20)
    assert time.process_time() - begun < 1.0
    assert len(made.order) == 16
