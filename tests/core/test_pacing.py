"""The budget at work in the core: who is held back, for how long, and who never."""

from __future__ import annotations

import pytest

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from tests.core.play import Play, of, seal

MB = 1_000_000
SIZE = 1000 * MB


def measured(*, speaks: bool = True, alone: float = 10.0) -> Play:
    """Jobs a and b run; each wrote 1 GB checkpoints; together they upload 100 MB/s.

    ``alone`` is how long each took when it was alone.
    """
    play = Play(min_interval=1e6, first_save=1e6, max_interval=1e6).running("a").running("b")
    for step in range(1, 6):
        for job in ("a", "b"):
            save_alone(play, job, step, alone)
    both(play, 6)
    if speaks:
        for tick in range(8):
            report(play, tick * 50, "a", "b")
    for job in ("a", "b"):
        finish(play, job, 20.0)
    return play


def save_alone(play: Play, job: str, step: int, seconds: float) -> None:
    """One checkpoint, and its figures."""
    play.now += 1
    play.sealed(step, job, ask=0)
    finish(play, job, seconds)


def finish(play: Play, job: str, seconds: float) -> None:
    """The upload under way is complete."""
    play.send(e.Uploaded(job, play.last(a.Upload, job).no, SIZE, seconds, SIZE))
    play.committed(job)


def both(play: Play, step: int) -> None:
    """Both seal at once."""
    play.now += 100
    for job in ("a", "b"):
        play.sealed(step, job)


def report(play: Play, sent: int, *jobs: str) -> list[a.Action]:
    """A second later, progress in MB."""
    play.now += 1
    out = []
    for job in jobs:
        out += play.send(e.Progress(job, play.last(a.Upload, job).no, sent * MB, SIZE))
    return out


def paces(out: list[a.Action]) -> dict[str, float | None]:
    """The newest cap of each job that got one."""
    return {action.job: action.rate for action in of(a.Pace, out)}


def noticed(play: Play, left: float) -> list[a.Action]:
    """A notice after some work: b's is worth more."""
    play.now += 100
    save_alone(play, "a", 8, 10.0)
    play.now += 100
    return play.noticed(left)


def caps(play: Play) -> dict[str, float | None]:
    """The caps in force."""
    return paces(play.actions)


def test_with_time_for_one_of_two_the_other_waits() -> None:
    """20 s of uploads in 12 s: the job with more work at stake has the link for itself."""
    play = measured()
    noticed(play, 14)
    play.now += 1
    play.sealed(10, "a")
    play.sealed(10, "b")
    assert caps(play) == {"a": 0.0}


def test_the_one_that_waited_goes_on_when_the_first_is_through() -> None:
    """At once, in the same turn."""
    play = measured()
    noticed(play, 22)
    play.sealed(10, "a")
    play.sealed(10, "b")
    assert caps(play) == {"a": 0.0}
    play.now += 10
    out = play.send(e.Uploaded("b", play.last(a.Upload, "b").no, SIZE, 10.0, SIZE))
    assert paces(out) == {"a": None}


def test_with_time_for_all_nobody_is_held_back() -> None:
    """The quiet case is quiet."""
    play = measured()
    noticed(play, 100)
    play.sealed(10, "a")
    play.sealed(10, "b")
    assert caps(play) == {}


def test_replicators_that_report_no_progress_are_never_held_back() -> None:
    """They may not know the command, and nobody could see what it does."""
    play = measured(speaks=False)
    play.core._world.link.totals.extend([100.0 * MB] * 9)  # the link is known all the same
    noticed(play, 14)
    play.sealed(10, "a")
    play.sealed(10, "b")
    assert caps(play) == {}


def test_while_a_size_is_unknown_nobody_is_held_back() -> None:
    """A third job that never uploaded anything."""
    play = measured().running("c")
    noticed(play, 14)
    for job in ("a", "b", "c"):
        play.sealed(10, job)
    assert caps(play) == {}


@pytest.mark.parametrize("how", ["deadline", "settled"])
def test_no_cap_outlives_the_drain(how: str) -> None:
    """Neither when it ends by its timer nor when everything is settled before."""
    play = measured()
    noticed(play, 14)
    play.sealed(10, "a")
    play.sealed(10, "b")
    assert caps(play) == {"a": 0.0}
    if how == "deadline":
        play.until(play.now - 1000 + 14)
    else:
        for job in ("b", "a"):
            finish(play, job, 5.0)
    drain = play.core.drain()
    assert drain is None or drain.phase.value == "closed"
    assert caps(play) == {"a": None}


def test_a_replicator_that_connects_is_told_its_cap() -> None:
    """The one in force; and that there is none, after one of an earlier connection."""
    play = measured()
    noticed(play, 14)
    play.sealed(10, "a")
    play.sealed(10, "b")
    play.send(e.ReplicatorDown("a"))
    assert paces(play.send(e.ReplicatorUp("a", 1, seal(8), seal(10)))) == {"a": 0.0}
    play.send(e.ReplicatorDown("a"))
    play.until(play.now - 1000 + 14)
    assert paces(play.send(e.ReplicatorUp("a", None, seal(8), seal(10)))) == {"a": None}


def test_a_slower_link_than_ever_before_changes_the_choice() -> None:
    """B was to go first; at 40 % of the rate only what is left of a's upload gets through."""
    play = measured()
    play.now += 100
    save_alone(play, "a", 8, 10.0)
    play.now += 10
    play.sealed(9, "a")  # under way, nearly there
    report(play, 700, "a")
    play.noticed(15)
    play.sealed(10, "b")
    assert caps(play).get("a") == 0.0
    out: list[a.Action] = []
    for tick in range(5):
        out += report(play, tick * 40, "b")
    assert paces(out).get("a", 0.0) is None
    assert caps(play)["b"] == 0.0


def test_an_upload_that_stalls_lets_the_others_go() -> None:
    """The one that was preferred reports no byte for seconds."""
    play = measured()
    noticed(play, 22)
    play.sealed(10, "a")
    play.sealed(10, "b")
    report(play, 0, "b")
    assert caps(play) == {"a": 0.0}
    for _ in range(5):
        report(play, 0, "b")
    assert caps(play)["a"] is None


def test_a_slow_replicator_is_told_from_a_slow_link() -> None:
    """Alone each carries 20 MB/s of the link's 100: nobody need wait for the other."""
    play = measured(alone=50.0)
    noticed(play, 56)
    play.sealed(10, "a")
    play.sealed(10, "b")
    assert caps(play).get("a", None) is None
    assert caps(play).get("b", None) is None


def test_each_decision_is_told_with_its_figures_and_once() -> None:
    """Place, rate, bytes, seconds, work; the same is not told again."""
    play = measured()
    noticed(play, 14)
    play.sealed(10, "b")
    told = [x for x in of(a.Decided, play.actions) if x.job == "b"]
    assert told[-1].place == 1
    assert told[-1].rate == pytest.approx(100.0 * MB, rel=0.01)
    (choice,) = told[-1].choices
    assert (choice.step, choice.size, choice.fits) == (None, SIZE, True)
    assert choice.seconds == pytest.approx(10.0, rel=0.01)
    assert choice.value > 200
    again = play.send(e.Woken()) + report(play, 0, "b")
    assert not [x for x in of(a.Decided, again) if x.job == "b"]


def test_progress_of_an_upload_that_is_over_changes_nothing() -> None:
    """Late news."""
    play = measured()
    play.sealed(9, "a")
    old = play.last(a.Upload, "a").no
    finish(play, "a", 10.0)
    before = play.view("a")
    assert play.send(e.Progress("a", old, 5, 10)) == []
    assert play.view("a") == before


def test_nonsense_figures_are_bounded() -> None:
    """A replicator is another user's process: what it says cannot break the core."""
    play = measured()
    noticed(play, 14)
    play.sealed(10, "a")
    number = play.last(a.Upload, "a").no
    for sent, size in ((-5, -7), (10**30, 3), (0, 0), (7, 10**30)):
        play.now += 0.6
        play.send(e.Progress("a", number, sent, size))
        play.send(e.Growing("b", sent, size))
    play.sealed(11, "b")
    assert play.core.next_wakeup() is not None
