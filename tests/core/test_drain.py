"""From a notice to the deadline: every job is settled once, and a timer is enough for that."""

from __future__ import annotations

import pytest

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.table import Phase
from spotwatchd.core.words import JobPolicy, Life, MachineAction, Outcome, Settlement
from tests.core.play import START, Play, notice, of, seal, words

COMMITTED, ABANDONED = Settlement.COMMITTED, Settlement.ABANDONED


def settled(out: list[a.Action]) -> list[tuple[str, Settlement, int | None]]:
    """Who was settled how."""
    return [(one.job, one.settlement, one.step) for one in of(a.JobSettled, out)]


def test_a_notice_opens_the_drain_and_asks_every_running_job() -> None:
    """The drain first, so that the journal has it before anything happens."""
    play = Play().running("a").running("b")
    out = play.noticed(120)
    told = notice(START + 120)
    assert out == [
        a.DrainOpened(104, told, ("a", "b")),
        a.Ask("a", 1, "notice", START + 120, MachineAction.TERMINATE),
        a.Ask("b", 1, "notice", START + 120, MachineAction.TERMINATE),
    ]
    assert play.core.next_wakeup() == START + 120


def test_a_notice_that_is_repeated_is_nothing() -> None:
    """It is read again at each poll."""
    play = Play().running()
    play.noticed(120)
    for second in range(1, 100):
        assert play.send(e.NoticeSeen(notice(START + 120)), at=second) == []


def test_a_saved_job_is_settled_released_and_the_margin_told() -> None:
    """The whole way of a notice, with every number."""
    play = Play().running()
    play.noticed(120)
    play.now += 4
    (upload,) = play.sealed(40)
    assert upload == a.Upload("j", 103, seal(40), "notice", START + 120)
    play.now += 2
    assert play.uploaded() == [a.Commit("j", 103, seal(40), "notice", START + 120)]
    assert play.committed() == [
        a.JobSettled(102, "j", COMMITTED, "saved for the notice", 40),
        a.DrainClosed(102, 114.0),
    ]
    (release,) = of(a.Release, play.exited(75))
    assert (release.outcome, release.crashes) == (Outcome.PREEMPTED, 0)
    play.released()
    assert play.view().life is Life.WAITING
    assert not of(a.Take, play.until(300))


def test_a_saved_job_that_does_not_leave_is_stopped() -> None:
    """Two seconds after the commit: the lease must be free for the next machine."""
    play = Play().running()
    play.noticed(120)
    play.saved(40)
    assert of(a.Stop, play.until(1.9)) == []
    assert of(a.Stop, play.until(2)) == [a.Stop("j", 30.0, "the machine goes away")]


def test_a_seal_of_before_the_ask_does_not_settle() -> None:
    """It answers the older ask; the steps since would be lost."""
    play = Play().running()
    play.until(10)
    play.noticed(120)
    assert play.view().asked == 2
    play.sealed(30, ask=1)
    play.uploaded()
    assert settled(play.committed()) == []
    assert settled(play.saved(31, ask=2)) == [("j", COMMITTED, 31)]


def test_a_periodic_ask_is_replaced_by_one_with_the_deadline() -> None:
    """A new number, or a save that began before would count."""
    play = Play().running()
    play.until(10)
    (ask,) = of(a.Ask, play.noticed(100))
    assert (ask.number, ask.cause, ask.deadline) == (2, "notice", START + 110)


def test_a_save_that_began_after_the_ask_answers_it_without_a_number() -> None:
    """A client that was about to save anyway: measured time tells."""
    play = Play().running()
    play.noticed(120)
    play.now += 3
    play.send(e.Sealed("j", seal(30), 0, 2.0))
    play.uploaded()
    assert settled(play.committed()) == [("j", COMMITTED, 30)]


def test_a_save_that_began_before_the_ask_does_not() -> None:
    """Five seconds of saving, three since the ask."""
    play = Play().running()
    play.noticed(120)
    play.now += 3
    play.send(e.Sealed("j", seal(30), 0, 5.0))
    play.uploaded()
    assert settled(play.committed()) == []


def test_the_first_seal_after_the_ask_settles_a_program_without_the_client() -> None:
    """Order of arrival is all there is."""
    play = Play().running(joined=False)
    play.noticed(120)
    play.send(e.Sealed("j", seal(30)))
    play.uploaded()
    assert settled(play.committed()) == [("j", COMMITTED, 30)]


def test_an_exit_settles_with_the_newest_seal() -> None:
    """A client that saved by its own accord and left."""
    play = Play().running()
    play.saved(30, ask=0)
    play.noticed(120)
    assert settled(play.exited(75)) == [("j", COMMITTED, 30)]


def test_an_exit_before_the_commit_settles_at_the_commit() -> None:
    """And releases after it."""
    play = Play().running()
    play.noticed(120)
    play.sealed(30)
    out = play.exited(75)
    assert (settled(out), of(a.Release, out)) == ([], [])
    play.uploaded()
    out = play.committed()
    assert settled(out) == [("j", COMMITTED, 30)]
    assert of(a.Release, out)


def test_a_job_that_never_sealed_is_abandoned_with_the_reason() -> None:
    """Exit without any checkpoint."""
    play = Play().running()
    play.noticed(120)
    (one,) = of(a.JobSettled, play.exited(75))
    assert (one.settlement, one.step) == (ABANDONED, None)
    assert one.reason == "ended without ever sealing a checkpoint"


def at_deadline(play: Play) -> a.JobSettled:
    """What the timer alone makes of the job."""
    out = play.until(120)
    (one,) = of(a.JobSettled, out)
    assert of(a.DrainClosed, out) == [a.DrainClosed(one.drain, 0.0)]
    assert one.settlement is ABANDONED
    return one


def test_the_timer_abandons_a_job_that_is_silent() -> None:
    """And names the phase."""
    play = Play().running()
    play.saved(10, ask=0)
    play.noticed(120)
    one = at_deadline(play)
    assert (one.reason, one.step) == ("asked, but nothing was sealed since", 10)


def test_the_timer_abandons_an_upload_that_is_not_acknowledged() -> None:
    """Step 30 is sealed, step 10 is what the next machine gets."""
    play = Play().running()
    play.saved(10, ask=0)
    play.noticed(120)
    play.sealed(30)
    one = at_deadline(play)
    assert (one.reason, one.step) == ("sealed step 30, but its upload was not acknowledged", 10)


def test_the_timer_abandons_a_commit_of_which_nobody_knows() -> None:
    """Not proven, never "not there"."""
    play = Play().running()
    play.noticed(120)
    play.sealed(30)
    play.uploaded()
    one = at_deadline(play)
    assert one.reason == "sealed step 30, uploaded, but its commit was not acknowledged"


def test_the_timer_abandons_what_a_missing_replicator_could_not_carry() -> None:
    """The reason says which part was missing."""
    play = Play().running()
    play.noticed(120)
    play.send(e.ReplicatorDown("j"))
    play.sealed(30)
    assert at_deadline(play).reason == "sealed step 30, but its replicator is not connected"


def test_a_commit_after_the_deadline_is_recorded_but_not_settled_again() -> None:
    """ABANDONED stays, and the store has it all the same."""
    play = Play().running()
    play.noticed(120)
    play.sealed(30)
    play.uploaded()
    play.until(120)
    assert settled(play.committed()) == []
    assert play.view().committed == seal(30)
    drain = play.core.drain()
    assert drain is not None
    assert drain.jobs == {"j": ABANDONED}


def test_after_the_deadline_uploads_have_no_deadline() -> None:
    """The machine may live on for minutes; a past deadline would cut every try."""
    play = Play().running()
    play.noticed(20)
    play.until(20)
    (upload,) = of(a.Upload, play.sealed(30))
    assert upload.deadline is None


def test_a_job_that_left_with_an_upload_on_its_way_is_released_at_the_deadline() -> None:
    """The next machine must not wait for the lease to run out."""
    play = Play().running()
    play.noticed(120)
    play.sealed(30)
    play.exited(75)
    assert not of(a.Release, play.until(119.9))
    out = play.until(120)
    assert of(a.JobSettled, out)
    assert of(a.Release, out)
    assert out.index(of(a.JobSettled, out)[0]) < out.index(of(a.Release, out)[0])


def test_a_sealed_checkpoint_goes_up_at_once_while_the_job_saves() -> None:
    """A pause that was chosen when there was time ends with the notice."""
    play = Play().running()
    play.sealed(10, ask=0)
    for _ in range(6):
        play.send(e.UploadFailed("j", play.last(a.Upload).no, "away"))
        play.until(play.now - START + 10)
    play.send(e.UploadFailed("j", play.last(a.Upload).no, "away"))
    (upload,) = of(a.Upload, play.noticed(120))
    assert (upload.seal, upload.deadline) == (seal(10), play.now + 120)


def with_measured_uploads(seconds: float) -> Play:
    """A job whose uploads take this long."""
    play = Play().running()
    play.sealed(10, ask=0)
    play.send(e.Uploaded("j", play.last(a.Upload).no, 100, seconds))
    play.committed()
    return play


def test_an_older_upload_is_cancelled_when_only_the_newer_one_fits() -> None:
    """20 s left, 15 s each: the newer one is worth more."""
    play = with_measured_uploads(15.0)
    play.sealed(20, ask=0)
    old = play.last(a.Upload)
    play.noticed(20)
    out = play.sealed(30)
    assert [action for action in out if not isinstance(action, a.Decided)] == [
        a.CancelUpload("j", old.no),
        a.Upload("j", old.no + 2, seal(30), "notice", START + 20),
    ]


def test_an_older_upload_is_kept_when_both_fit() -> None:
    """A bird in the hand first."""
    play = with_measured_uploads(15.0)
    play.sealed(20, ask=0)
    play.noticed(100)
    assert not of(a.CancelUpload, play.sealed(30))
    play.uploaded()
    (upload,) = of(a.Upload, play.committed())
    assert upload.seal == seal(30)


def test_starting_jobs_are_asked_as_soon_as_they_run() -> None:
    """And not started twice."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.taken()
    assert not of(a.Ask, play.noticed(120))
    (ask,) = of(a.Ask, play.started())
    assert ask.deadline == START + 120


def test_a_job_whose_lease_is_being_taken_gives_it_back() -> None:
    """Settled at once; whatever the take says later, nothing starts."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    out = play.noticed(120)
    assert settled(out) == [("j", COMMITTED, None)]
    assert [release.outcome for release in of(a.Release, out)] == [Outcome.PREEMPTED]
    assert play.taken() == []
    play.released()
    assert play.view().life is Life.WAITING


def test_a_waiting_job_is_settled_at_once_and_not_taken() -> None:
    """A machine under notice takes no lease."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    out = play.noticed(120)
    assert settled(out) == [("j", COMMITTED, None)]
    assert of(a.DrainClosed, out)[0].spare == 120.0
    assert play.send(e.ReplicatorUp("j", None, None, None)) == []


def test_a_job_that_is_added_during_a_drain_waits_for_its_end() -> None:
    """Registered, not refused."""
    play = Play()
    play.noticed(20)
    play.send(e.JobAdded("j", JobPolicy()))
    assert play.send(e.ReplicatorUp("j", None, None, None)) == []
    assert of(a.Take, play.until(20 + 240))


def test_a_running_job_that_is_found_during_a_drain_is_drained() -> None:
    """The notice reached the restarted daemon before the journal was read to its end."""
    play = Play().running("a")
    play.noticed(120)
    out = play.send(e.JobAdded("b", JobPolicy(), running=True, attempt=1, asked=4))
    (ask,) = of(a.Ask, out)
    assert (ask.job, ask.number, ask.cause) == ("b", 5, "notice")
    assert {one[0] for one in settled(play.until(120))} == {"a", "b"}


def test_a_drain_without_jobs_closes_at_once() -> None:
    """Nothing to save is saved in no time."""
    play = Play()
    assert [type(action) for action in play.noticed(120)] == [a.DrainOpened, a.DrainClosed]


def test_a_lost_lease_settles_as_abandoned() -> None:
    """Nothing can be committed any more."""
    play = Play().running()
    play.noticed(120)
    (one,) = of(a.JobSettled, play.send(e.LeaseLost("j", "generation 2 has it")))
    assert (one.settlement, one.reason) == (ABANDONED, "lease lost: generation 2 has it")


def test_a_lease_lost_after_the_exit_settles_as_abandoned_too() -> None:
    """Its last checkpoint was on its way."""
    play = Play().running()
    play.noticed(120)
    play.sealed(30)
    play.exited(75)
    (one,) = of(a.JobSettled, play.send(e.LeaseLost("j", "another")))
    assert (one.settlement, one.reason) == (ABANDONED, "lease lost: another")
    assert not of(a.Release, play.actions)


def test_a_removed_job_does_not_hold_the_drain() -> None:
    """Settled with the reason."""
    play = Play()
    play.running("a")
    play.running("b")
    play.noticed(120)
    play.exited(75, "b")
    (one,) = of(a.JobSettled, play.send(e.JobRemoved("a")))
    assert one.reason == "the job was removed"
    assert play.core.drain() is not None


# -- deadlines ---------------------------------------------------------------------------


def test_an_earlier_deadline_moves_the_drain_and_the_ask() -> None:
    """A second source; the same number again."""
    play = Play().running()
    play.noticed(120)
    out = play.send(e.NoticeSeen(notice(START + 60, "other", "ec2-asg")), at=1)
    drain = play.core.drain()
    assert drain is not None
    assert out == [
        a.DrainMoved(drain.number, START + 60),
        a.Ask("j", 1, "notice", START + 60, MachineAction.TERMINATE),
    ]
    assert play.core.next_wakeup() == START + 60


def test_a_later_deadline_never_moves_it() -> None:
    """A sliding notice, at each poll two minutes ahead, does not keep the drain open."""
    play = Play().running()
    play.noticed(120)
    for second in range(2, 120, 2):
        late = notice(START + 120 + second, key=str(second))
        assert play.send(e.NoticeSeen(late), at=second) == []
    assert settled(play.until(120)) == [("j", ABANDONED, None)]


def test_a_difference_within_the_jitter_is_no_news() -> None:
    """Half a second of clock arithmetic."""
    play = Play().running()
    play.noticed(120)
    assert play.send(e.NoticeSeen(notice(START + 119.5, "other"))) == []


def test_a_deadline_that_has_just_passed_leaves_ten_seconds() -> None:
    """EC2 may be in its last moments: use them."""
    play = Play().running()
    (ask,) = of(a.Ask, play.noticed(-150))
    assert ask.deadline == START + 10
    assert play.send(e.NoticeSeen(notice(START - 150)), at=5) == []


def test_a_stale_notice_is_reported_once_and_ignored() -> None:
    """What EC2 leaves behind when it failed to take the machine."""
    play = Play().running()
    out = play.noticed(-151)
    assert words(out) == ["notice_stale"]
    assert play.send(e.NoticeSeen(notice(START - 151)), at=5) == []
    assert play.core.drain() is None


# -- the machine survives ------------------------------------------------------------------


def test_a_machine_that_outlives_its_deadline_by_four_minutes_takes_its_jobs_anew() -> None:
    """Un-drain is like any other machine: take, restore, start."""
    play = Play().running()
    play.noticed(120)
    play.saved(40)
    play.exited(75)
    play.released()
    assert play.until(359.9) == []
    out = play.until(360)
    assert [type(action) for action in out] == [a.Undrained, a.Take]
    (start,) = of(a.Start, play.taken(restored=seal(40)))
    assert (start.cause, start.resume, start.attempt) == ("interruption", seal(40), 2)


def test_a_job_that_was_never_saved_goes_on_after_an_undrain() -> None:
    """It still runs, under its lease; only the ask is withdrawn."""
    play = Play().running()
    play.noticed(120)
    play.until(120)
    drain = play.last(a.DrainOpened).drain
    assert play.until(360) == [
        a.Undrained(drain, "machine outlived it"),
        a.Withdraw("j", 1),
        a.Ask("j", 2, "periodic", None, None),
    ]
    assert play.view().life is Life.RUNNING


def test_the_same_notice_is_ignored_after_an_undrain_and_another_is_new() -> None:
    """EC2 leaves the old one in place with its past time."""
    play = Play().running()
    play.noticed(20)
    play.until(20 + 240)
    assert play.send(e.NoticeSeen(notice(START + 20)), at=261) == []
    assert of(a.DrainOpened, play.send(e.NoticeSeen(notice(START + 400, "new")), at=262))


def test_a_withdrawn_notice_undrains_after_everything_is_settled() -> None:
    """What was begun for it is finished."""
    play = Play().running()
    play.noticed(120)
    assert play.send(e.NoticeGone("ec2-spot"), at=5) == []
    play.sealed(40)
    play.uploaded()
    out = play.committed()
    assert settled(out) == [("j", COMMITTED, 40)]
    assert [undrained.reason for undrained in of(a.Undrained, out)] == ["notice withdrawn"]
    assert play.core.drain() is None


def test_it_is_withdrawn_only_when_every_source_that_showed_it_is_silent() -> None:
    """One of two is not enough."""
    play = Play()
    play.noticed(120)
    play.send(e.NoticeSeen(notice(START + 130, "other", "ec2-asg")))
    assert play.send(e.NoticeGone("ec2-spot")) == []
    assert play.send(e.NoticeGone("nobody")) == []
    assert of(a.Undrained, play.send(e.NoticeGone("ec2-asg")))


def test_a_notice_that_comes_back_before_the_undrain_is_the_same_drain() -> None:
    """A flickering source."""
    play = Play().running()
    play.noticed(120)
    play.send(e.NoticeGone("ec2-spot"))
    assert play.send(e.NoticeSeen(notice(START + 120))) == []
    play.until(120)
    drain = play.core.drain()
    assert drain is not None
    assert drain.phase is Phase.CLOSED


def test_a_stop_and_a_notice_end_as_stopped() -> None:
    """The person does not want it to run elsewhere."""
    play = Play().running()
    play.send(e.StopRequested("j"))
    (ask,) = of(a.Ask, play.noticed(120))
    assert (ask.number, ask.cause) == (2, "notice")
    assert settled(play.saved(40)) == [("j", COMMITTED, 40)]
    (release,) = of(a.Release, play.exited(75))
    assert release.outcome is Outcome.STOPPED


@pytest.mark.parametrize("sources", [1, 500])
def test_a_sliding_source_does_not_make_the_core_grow(sources: int) -> None:
    """What is remembered of notices is bounded, whatever they say."""
    play = Play()
    play.noticed(120)
    for number in range(sources):
        play.noticed(130, key=str(number))
    assert len(play.core._world.drain.identities) <= 64
