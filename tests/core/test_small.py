"""The small pure functions: cadence, budget, back-off, views and the story."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.core import budget, cadence, notice
from spotwatchd.core import events as e
from spotwatchd.core.machine import Core, CoreSettings
from spotwatchd.core.policy import backoff
from spotwatchd.core.words import JobPolicy, Life, Saving
from tests.core.play import START, Play, seal
from tests.core.play import notice as a_notice

SETTINGS = CoreSettings()
times = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("wanted", "costs", "seconds"),
    [
        (None, [], math.sqrt(2 * 10800 * 5.0)),
        (None, [6.3], math.sqrt(2 * 10800 * 6.3)),
        (None, [1.0, 2.0, 900.0], math.sqrt(2 * 10800 * 2.0)),
        (None, [0.001], 10.0),
        (None, [-1.0], 10.0),
        (None, [500.0], 1800.0),
        (3.0, [500.0], 3.0),
        (0.0, [1.0], None),
    ],
)
def test_the_interval(wanted: float | None, costs: list[float], seconds: float | None) -> None:
    """Young/Daly of the median cost, within bounds; the user's own word as it is."""
    assert cadence.interval(wanted, costs, SETTINGS) == seconds


@given(costs=st.lists(times, max_size=5))
def test_the_interval_is_always_within_its_bounds(costs: list[float]) -> None:
    """Whatever was measured."""
    chosen = cadence.interval(None, costs, SETTINGS)
    assert chosen is not None
    assert 10.0 <= chosen <= 1800.0


@pytest.mark.parametrize(("wanted", "seconds"), [(None, 10.0), (3.0, 3.0), (60.0, 10.0), (0, None)])
def test_the_first_save(wanted: float | None, seconds: float | None) -> None:
    """Early, to measure."""
    assert cadence.first(wanted, SETTINGS) == seconds


@pytest.mark.parametrize(
    ("elapsed", "typical", "left", "keep"),
    [
        (5.0, None, 20.0, True),  # no rate known
        (5.0, 15.0, None, True),  # no hurry
        (0.0, 15.0, 30.0, True),  # both fit
        (0.0, 15.0, 29.0, False),  # only one does: the newer
        (12.5, 15.0, 16.0, True),  # nearly done
        (2.0, 15.0, 14.0, True),  # the newer cannot fit, the older can
        (0.0, 15.0, 10.0, False),  # neither fits: hope for the newer
    ],
)
def test_which_upload_gets_the_link(
    elapsed: float, typical: float | None, left: float | None, keep: bool
) -> None:
    """The rule in one table."""
    assert budget.keep_older(elapsed, typical, left) is keep


@given(elapsed=times, typical=times, left=times)
def test_an_upload_is_not_given_up_for_one_that_fits_less(
    elapsed: float, typical: float, left: float
) -> None:
    """If the older fits and the newer does not, the older goes on."""
    if typical - elapsed <= left < typical:
        assert budget.keep_older(elapsed, typical, left)


@given(wanted=st.floats(0.2, 10), left=times)
def test_a_pause_never_sleeps_past_the_deadline(wanted: float, left: float) -> None:
    """Unless there is no time for a pause at all."""
    pause = budget.retry_delay(wanted, 0.2, left)
    assert 0.2 <= pause <= wanted
    assert left <= 0.2 or pause <= max(0.2, left / 2)


def test_the_pauses_double_up_to_the_limit() -> None:
    """And never overflow."""
    assert [backoff(n, (1.0, 60.0)) for n in (1, 2, 3, 6, 7, 8, 5000)] == [1, 2, 4, 32, 60, 60, 60]


@pytest.mark.parametrize(
    ("deadline", "kept"),
    [(100.1, 100.1), (100.0, 110.0), (-50.0, 110.0), (-50.1, None)],
)
def test_the_deadline_that_is_kept(deadline: float, kept: float | None) -> None:
    """Future as told, just past ten seconds, long past not at all (now is 100)."""
    assert notice.effective(deadline, 100.0, SETTINGS) == kept


def test_the_view_tells_what_status_needs() -> None:
    """Life, saving, steps, the next save, the ask and the drain."""
    play = Play().running()
    play.saved(10, ask=0)
    view = play.view()
    assert (view.life, view.saving, view.committed) == (Life.RUNNING, Saving.IDLE, seal(10))
    assert view.next_save == play.core.next_wakeup()
    assert play.core.drain() is None
    play.noticed(120)
    view, drain = play.view(), play.core.drain()
    assert view.ask is not None
    assert (view.ask.number, view.ask.deadline, view.next_save) == (1, START + 120, None)
    assert drain is not None
    assert (drain.deadline, drain.jobs, drain.sources) == (
        START + 120,
        {"j": None},
        frozenset({"ec2-spot"}),
    )


def test_the_story_tells_what_happened_and_nothing_per_poll() -> None:
    """Event, state before and after, actions; the repeated notice is not in it."""
    play = Play()
    play.running()
    play.noticed(120)
    lines = len(play.core.story())
    for _ in range(100):
        play.send(e.NoticeSeen(a_notice(START + 120)))
        play.send(e.Woken())
    story = play.core.story()
    assert len(story) == lines
    assert [(line.before, line.after) for line in story[:3]] == [
        ("unknown", "waiting/idle"),
        ("waiting/idle", "taking/idle"),
        ("taking/idle", "starting/idle"),
    ]
    assert (story[-1].before, story[-1].after) == ("calm", "open")


def test_the_story_of_one_job_leaves_the_others_out() -> None:
    """But has what the machine did to it."""
    play = Play().running("a").running("b")
    play.noticed(120)
    of_a = play.core.story("a")
    assert {getattr(line.event, "job", "a") for line in of_a} == {"a"}
    assert isinstance(of_a[-1].event, e.NoticeSeen)


def test_the_story_is_bounded() -> None:
    """A daemon lives for months."""
    core = Core(settings=CoreSettings(story_lines=5), first_number=1)
    for number in range(50):
        core.handle(e.JobAdded(str(number), JobPolicy()), float(number))
    assert len(core.story()) == 5


def test_numbers_begin_where_the_caller_says() -> None:
    """Completions of an earlier daemon are stale by their number."""
    core = Core(settings=CoreSettings(), first_number=7_000_000)
    core.handle(e.JobAdded("j", JobPolicy()), 1.0)
    (take,) = core.handle(e.ReplicatorUp("j", None, None, None), 1.0)
    assert getattr(take, "no", None) == 7_000_000
