"""The life of a job: take, start, run, exit, release, and again."""

from __future__ import annotations

import pytest

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.words import JobPolicy, Life, Outcome
from tests.core.play import START, Play, of, seal, words


def test_a_job_is_taken_when_its_replicator_is_there_and_started_when_the_lease_is_held() -> None:
    """JobAdded, ReplicatorUp, Take, Taken, Start, Started, RUNNING."""
    play = Play()
    assert play.send(e.JobAdded("j", JobPolicy())) == []
    assert play.send(e.ReplicatorUp("j", None, None, None)) == [a.Take("j", 100)]
    assert play.send(e.Taken("j", 100, 1, None, 1)) == [a.Start("j", 101, 1, None, "first")]
    assert play.view().life is Life.STARTING
    assert play.send(e.Started("j", 101)) == []
    assert play.view().life is Life.RUNNING
    assert play.core.next_wakeup() == START + 10


def test_a_fresh_machine_resumes_from_what_the_store_restored() -> None:
    """The cause of the start tells an interruption from a first run."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    out = play.send(e.Taken("j", 100, 4, seal(40), 4))
    assert out == [a.Start("j", 101, 4, seal(40), "interruption")]
    assert play.view().committed == seal(40)


def test_a_crash_on_another_machine_is_the_cause_of_the_start_here() -> None:
    """Head carries the count."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    (start,) = of(a.Start, play.send(e.Taken("j", 100, 4, seal(40), 4, crashes=1)))
    assert start.cause == "crash"


@pytest.mark.parametrize("ended", ["finished", "crashed", "stopped"])
def test_a_job_that_head_calls_ended_is_not_run(ended: str) -> None:
    """Nothing is started and nothing released: the take did not keep the lease."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    assert play.taken(ended=ended) == []
    assert play.view().life is Life.DONE
    assert play.view().outcome is Outcome(ended)
    assert play.core.next_wakeup() is None


def test_an_unmanaged_job_runs_without_a_start() -> None:
    """Somebody else starts it; the lease is taken all the same."""
    play = Play().running(policy=JobPolicy(managed=False))
    assert not of(a.Start, play.actions)
    assert play.view().life is Life.RUNNING


def test_an_unmanaged_job_that_left_is_taken_again_only_when_a_process_joins() -> None:
    """Holding the lease while nothing runs would lock out the machine that it moved to."""
    play = Play().running(policy=JobPolicy(managed=False))
    play.saved(10)
    (release,) = of(a.Release, play.exited(None))
    assert (release.outcome, release.crashes) == (Outcome.PREEMPTED, 0)
    assert play.released() == []
    assert play.view().life is Life.WAITING
    assert of(a.Take, play.send(e.ProcessJoined("j", "2")))


def test_an_adopted_job_is_not_started_again_and_keeps_the_lease_it_has() -> None:
    """After a restart of the daemon the replicator still holds the lease."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy(), running=True, attempt=3, asked=7))
    assert play.send(e.ReplicatorUp("j", 5, seal(10), seal(10))) == [a.Pace("j", None)]
    assert (play.view().life, play.view().generation) == (Life.RUNNING, 5)
    assert of(a.Ask, play.until(10))[0].number == 8


def test_an_adopted_job_whose_replicator_lost_the_lease_takes_it_without_a_start() -> None:
    """What runs must be allowed to commit."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy(), running=True, attempt=3))
    assert play.send(e.ReplicatorUp("j", None, None, None)) == [a.Take("j", 100)]
    assert play.send(e.Taken("j", 100, 6, seal(10), 4)) == []
    assert (play.view().life, play.view().generation) == (Life.RUNNING, 6)
    assert of(a.Release, play.send(e.JobExited("j", 3, 0, False), at=3)) == []
    (release,) = of(a.Release, play.until(6))
    assert release.outcome is Outcome.FINISHED


def test_a_running_job_whose_lease_was_anothers_in_between_is_stopped() -> None:
    """Generations 1, then 3: somebody had 2, and went on from the store."""
    play = Play().running()
    play.send(e.ReplicatorDown("j"))
    play.send(e.ReplicatorUp("j", None, None, None))
    take = play.last(a.Take)
    (stop,) = of(a.Stop, play.send(e.Taken("j", take.no, 3, seal(10), 3)))
    assert stop.reason == "generation 2 was another machine's"


def test_what_was_outstanding_when_the_replicator_went_is_issued_again_under_a_new_number() -> None:
    """Whether the first one was carried out is unknown; all actions are idempotent."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.send(e.ReplicatorDown("j"))
    assert play.send(e.ReplicatorUp("j", None, None, None)) == [a.Take("j", 101)]
    assert play.send(e.Taken("j", 100, 1, None, 1)) == []
    assert play.send(e.Taken("j", 101, 1, None, 1)) == [a.Start("j", 102, 1, None, "first")]
    play.send(e.Started("j", 102))
    play.sealed(10, ask=0)
    play.send(e.ReplicatorDown("j"))
    (upload,) = of(a.Upload, play.send(e.ReplicatorUp("j", 1, None, seal(10))))
    assert (upload.no, upload.seal) == (104, seal(10))


def test_a_failed_take_is_tried_again_with_a_growing_pause() -> None:
    """1, 2, 4 ... 60 seconds."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    pauses = []
    for _ in range(8):
        out = play.send(e.TakeFailed("j", play.last(a.Take).no, "away"))
        assert words(out) == ["take_failed"]
        wakeup = play.core.next_wakeup()
        assert wakeup is not None
        pauses.append(wakeup - play.now)
        play.until(wakeup - START)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


EXITS = [
    # status, finished(), told to leave, outcome
    (0, False, False, Outcome.FINISHED),
    (0, True, False, Outcome.FINISHED),
    (0, False, True, Outcome.PREEMPTED),
    (0, True, True, Outcome.FINISHED),
    (75, False, False, Outcome.PREEMPTED),
    (75, False, True, Outcome.PREEMPTED),
    (1, False, False, Outcome.CRASHED),
    (1, True, False, Outcome.CRASHED),
    (1, False, True, Outcome.PREEMPTED),
    (-15, False, True, Outcome.PREEMPTED),
    (-9, False, False, Outcome.CRASHED),
    (None, False, False, Outcome.CRASHED),
    (None, True, False, Outcome.FINISHED),
]


@pytest.mark.parametrize(("status", "finished", "told", "outcome"), EXITS)
def test_what_the_end_of_an_attempt_means(
    status: int | None, finished: bool, told: bool, outcome: Outcome
) -> None:
    """Preempted is not finished, and neither is a crash."""
    play = Play().running()
    if told:
        play.noticed(120)
    play.exited(status, finished=finished)
    assert play.view().outcome is outcome


def test_an_exit_that_nobody_saw_of_a_job_that_was_told_to_leave_is_preempted() -> None:
    """The daemon was away; the board remembers the ask."""
    play = Play()
    added = e.JobAdded("j", JobPolicy(), running=True, attempt=1, asked=2, told_to_leave=True)
    play.send(added)
    play.send(e.ReplicatorUp("j", 1, seal(10), seal(10)))
    play.exited(0)
    assert play.view().outcome is Outcome.PREEMPTED


def test_a_client_that_answers_a_later_ask_was_spared_and_can_finish() -> None:
    """After an un-drain it trains on, and its exit 0 is the end of the training."""
    play = Play().running()
    play.noticed(20)
    play.send(e.NoticeGone("ec2-spot"))
    play.until(20)
    play.send(e.SaveRequested("j"))
    play.saved(50)
    play.exited(0)
    assert play.view().outcome is Outcome.FINISHED


def test_a_finished_job_is_released_as_such_and_is_over() -> None:
    """Released, DONE, and no timer left."""
    play = Play().running()
    (release,) = of(a.Release, play.exited(0))
    assert release.outcome is Outcome.FINISHED
    assert play.released() == []
    assert play.view().life is Life.DONE
    assert play.core.next_wakeup() is None


def test_a_crash_is_tried_again_and_head_is_not_told_that_the_job_is_over() -> None:
    """Given back as PREEMPTED with a count, because CRASHED in head is final."""
    play = Play().running()
    (release,) = of(a.Release, play.exited(1))
    assert (release.outcome, release.crashes) == (Outcome.PREEMPTED, 1)
    play.released()
    assert play.view().life is Life.WAITING
    assert play.core.next_wakeup() == play.now + 1
    play.until(1)
    (start,) = of(a.Start, play.taken(crashes=1))
    assert (start.cause, start.attempt) == ("crash", 2)


def crash(play: Play, crashes: int) -> a.Release:
    """One more crash without a new step."""
    (release,) = of(a.Release, play.exited(1))
    play.released()
    if play.view().life is Life.WAITING:
        play.until(play.now - START + 60)
        play.taken(crashes=crashes, restored=play.view().committed)
        play.started()
        play.send(e.ProcessJoined("j", "1"))
    return release


def test_after_so_many_crashes_in_a_row_the_job_is_given_up() -> None:
    """The third crash without a new step ends it, and head says so."""
    play = Play().running()
    assert crash(play, 1).outcome is Outcome.PREEMPTED
    assert crash(play, 2).outcome is Outcome.PREEMPTED
    last = crash(play, 3)
    assert (last.outcome, last.crashes) == (Outcome.CRASHED, 3)
    assert play.view().life is Life.DONE


def test_a_new_committed_step_resets_the_count_of_crashes() -> None:
    """Progress earns a new budget."""
    play = Play().running()
    crash(play, 1)
    crash(play, 2)
    play.saved(10, ask=0)
    assert play.view().crashes == 0
    assert crash(play, 1).crashes == 1


def test_a_crash_whose_last_checkpoint_gets_through_is_the_first_since_that_step() -> None:
    """It is committed before the lease is given back, without a deadline."""
    play = Play().running()
    crash(play, 1)
    crash(play, 2)
    play.sealed(10, ask=0)
    assert of(a.Release, play.exited(1)) == []
    play.uploaded()
    (release,) = of(a.Release, play.committed())
    assert (release.outcome, release.crashes) == (Outcome.PREEMPTED, 1)


def test_interruptions_have_no_budget_but_a_pause_when_nothing_is_gained() -> None:
    """A job that leaves at once each time cannot make the daemon spin."""
    play = Play().running()
    pauses = []
    for _ in range(8):
        play.exited(75)
        play.released()
        wakeup = play.core.next_wakeup()
        assert wakeup is not None
        pauses.append(wakeup - play.now)
        play.until(wakeup - START)
        play.taken()
        play.started()
        play.send(e.ProcessJoined("j", "1"))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert play.view().crashes == 0


def test_a_job_that_cannot_start_counts_against_the_crash_budget() -> None:
    """A command that does not exist would be tried for ever."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy(max_crashes=2)))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.taken()
    out = play.send(e.StartFailed("j", play.last(a.Start).no, "no such file"))
    assert [release.outcome for release in of(a.Release, out)] == [Outcome.PREEMPTED]
    play.released()
    play.until(1)
    (start,) = of(a.Start, play.taken(crashes=1))
    assert start.cause == "restart"
    out = play.send(e.StartFailed("j", start.no, "no such file"))
    assert [release.outcome for release in of(a.Release, out)] == [Outcome.CRASHED]


def test_the_end_of_an_older_attempt_is_not_the_end_of_this_one() -> None:
    """A late JobExited with another number changes nothing."""
    play = Play().running()
    crash(play, 1)
    assert play.view().attempt == 2
    assert play.send(e.JobExited("j", 1, 0, True)) == []
    assert play.view().life is Life.RUNNING


def test_a_program_without_the_client_gets_a_moment_for_its_last_files_to_be_found() -> None:
    """The scan sees them only when they stand still; without the wait they were lost."""
    play = Play().running(joined=False)
    assert of(a.Release, play.exited(0)) == []
    (upload,) = of(a.Upload, play.send(e.Sealed("j", seal(99)), at=1.5))
    assert upload.seal == seal(99)
    play.uploaded()
    (release,) = of(a.Release, play.committed())
    assert release.outcome is Outcome.FINISHED


def test_without_such_files_it_is_released_after_the_moment() -> None:
    """Two seconds, by timer alone."""
    play = Play().running(joined=False)
    play.exited(0)
    assert play.core.next_wakeup() == START + 2
    assert of(a.Release, play.until(2))


def test_a_release_waits_for_the_upload_but_not_for_ever() -> None:
    """After 300 s the job goes on without the checkpoint."""
    play = Play().running()
    play.sealed(10, ask=0)
    play.exited(75)
    assert of(a.Release, play.until(299)) == []
    out = play.until(300)
    assert of(a.CancelUpload, out) == [a.CancelUpload("j", play.last(a.Upload).no)]
    assert of(a.Release, out)
    assert words(out) == ["gave_up"]


def test_a_checkpoint_that_can_never_be_committed_does_not_hold_the_release() -> None:
    """Final failure."""
    play = Play().running()
    play.sealed(10, ask=0)
    play.exited(75)
    assert of(a.Release, play.send(e.UploadFailed("j", play.last(a.Upload).no, "gone", final=True)))


def test_a_release_that_fails_is_tried_until_head_knows() -> None:
    """Again after 1, 2, 4 ... seconds."""
    play = Play().running()
    play.exited(0)
    first = play.last(a.Release)
    assert words(play.send(e.ReleaseFailed("j", first.no, "away"))) == ["release_failed"]
    assert play.core.next_wakeup() == START + 1
    (again,) = of(a.Release, play.until(1))
    assert again.no > first.no
    assert play.send(e.Released("j", first.no)) == []
    play.released()
    assert play.view().life is Life.DONE


def test_a_finish_without_a_lease_takes_it_again_to_say_so() -> None:
    """The replicator crashed with the job; or the next machine would run the end again."""
    play = Play().running()
    play.send(e.ReplicatorDown("j"))
    play.exited(0)
    (take,) = of(a.Take, play.send(e.ReplicatorUp("j", None, None, None)))
    (release,) = of(a.Release, play.send(e.Taken("j", take.no, 2, None, 2)))
    assert release.outcome is Outcome.FINISHED


def test_a_lost_lease_stops_the_job_and_nothing_of_it_reaches_the_store() -> None:
    """Stop, no commit, no release; then the job waits for the other owner."""
    play = Play().running()
    play.sealed(10, ask=0)
    upload = play.last(a.Upload)
    out = play.send(e.LeaseLost("j", "generation 2 has it"))
    assert of(a.Stop, out) == [a.Stop("j", 30.0, "lease lost: generation 2 has it")]
    assert of(a.CancelUpload, out) == [a.CancelUpload("j", upload.no)]
    assert play.send(e.Uploaded("j", upload.no, 1, 1.0)) == []
    assert words(play.sealed(20, ask=0)) == ["seal_ignored"]
    out = play.exited(-15)
    assert of(a.Release, out) == []
    assert play.view().life is Life.WAITING
    assert of(a.Take, out + play.until(2))
    (start,) = of(a.Start, play.taken(restored=seal(30)))
    assert (start.resume, start.cause) == (seal(30), "restart")


def test_a_lease_lost_during_the_start_stops_what_was_started() -> None:
    """As soon as it exists."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.taken()
    assert of(a.Stop, play.send(e.LeaseLost("j", "another"))) == []
    assert of(a.Stop, play.started())


def test_a_start_that_fails_after_the_lease_is_lost_releases_nothing() -> None:
    """There is nothing left to give back."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.taken()
    play.send(e.LeaseLost("j", "another"))
    out = play.send(e.StartFailed("j", play.last(a.Start).no, "no such file"))
    assert of(a.Release, out) == []
    assert play.view().life is Life.WAITING


def test_a_stop_asks_then_ends_and_stays_stopped() -> None:
    """Ask, commit, two seconds to leave, SIGTERM, release as STOPPED."""
    play = Play().running()
    (ask,) = of(a.Ask, play.send(e.StopRequested("j")))
    assert (ask.cause, ask.deadline) == ("stop", None)
    play.saved(10)
    assert play.core.next_wakeup() == START + 2
    assert of(a.Stop, play.until(2)) == [a.Stop("j", 30.0, "stopped on request")]
    (release,) = of(a.Release, play.exited(-15))
    assert release.outcome is Outcome.STOPPED
    play.released()
    assert play.view().life is Life.DONE


def test_a_job_that_does_not_save_for_a_stop_is_ended_after_a_minute() -> None:
    """A person waits for it."""
    play = Play().running()
    play.send(e.StopRequested("j"))
    assert of(a.Stop, play.until(59)) == []
    assert of(a.Stop, play.until(60))


def test_a_stop_without_saving_asks_for_nothing() -> None:
    """SIGTERM at once, also when a stop with a save came first; then released as STOPPED."""
    for first in ([], [e.StopRequested("j")]):
        play = Play().running()
        for event in first:
            play.send(event)
        out = play.send(e.StopRequested("j", save=False))
        assert [type(each) for each in out] == [a.Stop]
        (release,) = of(a.Release, play.exited(-15))
        assert release.outcome is Outcome.STOPPED


def test_a_job_that_finished_while_it_was_stopped_is_finished() -> None:
    """finish() wins."""
    play = Play().running()
    play.send(e.StopRequested("j"))
    (release,) = of(a.Release, play.exited(0, finished=True))
    assert release.outcome is Outcome.FINISHED


def test_a_stop_while_the_job_waits_ends_it_at_once() -> None:
    """Nothing is held, nothing runs."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    assert play.send(e.StopRequested("j")) == []
    assert (play.view().life, play.view().outcome) == (Life.DONE, Outcome.STOPPED)


def test_a_stop_while_the_lease_is_taken_ends_the_wait_for_it() -> None:
    """The release reaches the replicator after the take."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    (release,) = of(a.Release, play.send(e.StopRequested("j")))
    assert release.outcome is Outcome.STOPPED
    assert play.taken() == []
    play.released()
    assert play.view().life is Life.DONE


def test_a_removed_job_is_forgotten() -> None:
    """Late events about it change nothing."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.JobRemoved("j"))
    assert play.core.view("j") is None
    assert play.core.jobs() == []
    assert play.send(e.ReplicatorUp("j", None, None, None)) == []


def test_a_job_that_is_over_runs_again_when_it_is_registered_again() -> None:
    """Unless it is found again as ended in the journal."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy(), ended=True))
    play.send(e.ReplicatorUp("j", None, None, None))
    assert play.view().life is Life.DONE
    assert of(a.Take, play.send(e.JobAdded("j", JobPolicy())))


def test_a_machine_that_lacks_something_gives_the_lease_back_and_counts_no_crash() -> None:
    """Blocked: released as preempted, looked at again with a growing pause, never given up."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy(max_crashes=1)))
    play.send(e.ReplicatorUp("j", None, None, None))
    for pause in (2, 4, 8, 16, 30, 30):
        play.taken(crashes=0)
        start = play.last(a.Start)
        (release,) = of(a.Release, play.send(e.Blocked("j", start.no, "no /data", "mount it")))
        assert (release.outcome, release.crashes) == (Outcome.PREEMPTED, 0)
        assert not of(a.Take, play.released())
        assert (play.view().life, play.view().blocked) == (Life.WAITING, "no /data")
        assert play.view().remedy == "mount it"
        passed = play.now - START
        assert not of(a.Take, play.until(passed + pause - 0.1))
        assert of(a.Take, play.until(passed + pause))
    play.taken()
    assert play.last(a.Start).cause == "first", "nothing of it ever ran"
    play.started()
    assert (play.view().life, play.view().blocked) == (Life.RUNNING, "")


def test_the_crashes_of_another_machine_survive_a_blocked_one() -> None:
    """The count in head stays as it was."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.taken(crashes=2)
    (release,) = of(a.Release, play.send(e.Blocked("j", play.last(a.Start).no, "no git", "")))
    assert release.crashes == 2


def test_a_blocked_job_whose_lease_is_lost_waits_without_a_release() -> None:
    """There is nothing to give back."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.taken()
    play.send(e.LeaseLost("j", "generation 9 has it"))
    assert not of(a.Release, play.send(e.Blocked("j", play.last(a.Start).no, "no git", "")))
    assert play.view().life is Life.WAITING


def test_a_stop_ends_a_blocked_job() -> None:
    """A person who does not want to mend it can end it."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    play.send(e.ReplicatorUp("j", None, None, None))
    play.taken()
    play.send(e.Blocked("j", play.last(a.Start).no, "no git", ""))
    play.released()
    play.send(e.StopRequested("j"))
    assert (play.view().life, play.view().outcome) == (Life.DONE, Outcome.STOPPED)
