"""The way of one checkpoint: ask, seal, upload, commit."""

from __future__ import annotations

import math

import pytest

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.words import JobPolicy, Saving
from tests.core.play import START, Play, of, seal, words


def test_a_background_save_goes_all_the_way() -> None:
    """Ask at 10 s, upload at the seal, commit at the upload, withdraw at the commit."""
    play = Play().running()
    assert play.until(9.9) == []
    assert play.until(10) == [a.Ask("j", 1, "periodic", None, None)]
    assert play.view().saving is Saving.ASKED
    (upload,) = play.sealed(7)
    assert upload == a.Upload("j", 102, seal(7), "periodic", None)
    assert play.view().saving is Saving.UPLOADING
    assert play.uploaded() == [a.Commit("j", 102, seal(7), "periodic", None)]
    assert (play.view().saving, play.view().committed) == (Saving.COMMITTING, None)
    assert play.committed() == [a.Withdraw("j", 1)]
    assert (play.view().saving, play.view().committed) == (Saving.IDLE, seal(7))


def test_the_next_save_is_due_after_the_young_daly_interval() -> None:
    """sqrt(2 * 3 h * 0.5 s) = 103.9 s after the seal."""
    play = Play().running()
    play.until(10)
    play.saved(7)
    assert play.core.next_wakeup() == START + 10 + math.sqrt(2 * 10800 * 0.5)
    assert play.view().next_save == play.core.next_wakeup()


def test_a_job_that_never_answers_keeps_one_open_ask() -> None:
    """No second one in a day, and no timer."""
    play = Play().running()
    play.until(10)
    assert play.core.next_wakeup() is None
    assert play.until(86_400) == []
    assert play.view().asked == 1


def test_an_interval_of_zero_asks_for_nothing_and_still_takes_what_comes() -> None:
    """The user saves by himself."""
    play = Play().running(policy=JobPolicy(interval=0.0))
    assert play.core.next_wakeup() is None
    (upload,) = of(a.Upload, play.sealed(5, ask=0))
    assert upload.cause == "own"


def test_an_interval_of_the_user_is_kept_exactly() -> None:
    """Two seconds means two seconds, also for the first save."""
    play = Play().running(policy=JobPolicy(interval=2.0))
    assert of(a.Ask, play.until(2))
    play.saved(5)
    assert play.core.next_wakeup() == START + 4


def test_a_seal_of_the_jobs_own_accord_puts_the_next_ask_off() -> None:
    """A job that saves often enough is never asked."""
    play = Play().running()
    play.send(e.Sealed("j", seal(5), 0, 2.0), at=9)
    play.uploaded()
    play.committed()
    assert play.core.next_wakeup() == START + 9 + math.sqrt(2 * 10800 * 2.0)


def test_a_save_without_a_measure_costs_what_passed_since_the_ask() -> None:
    """For programs without the client."""
    play = Play().running(joined=False)
    play.until(10)
    play.send(e.Sealed("j", seal(5)), at=16)
    play.uploaded()
    play.committed()
    assert play.core.next_wakeup() == START + 16 + math.sqrt(2 * 10800 * 6.0)


def test_one_upload_at_a_time_and_only_the_newest_waits() -> None:
    """Step 2 is never uploaded: step 3 is better."""
    play = Play().running()
    play.sealed(1, ask=0)
    assert play.sealed(2, ask=0) == []
    assert play.sealed(3, ask=0) == []
    play.uploaded()
    out = play.committed()
    assert [upload.seal for upload in of(a.Upload, out)] == [seal(3)]


def test_no_background_save_is_asked_for_while_an_upload_works() -> None:
    """A link slower than the interval would never finish one."""
    play = Play().running()
    play.until(10)
    play.sealed(1)
    assert play.until(3000) == []  # 103.9 s would have been the interval
    play.uploaded()
    assert of(a.Ask, play.committed())


def test_while_the_store_is_away_saving_goes_on() -> None:
    """An upload that fails again and again must not end the background saves."""
    play = Play().running()
    play.until(10)
    play.sealed(1)
    asks = []
    for _ in range(60):
        out = play.send(e.UploadFailed("j", play.last(a.Upload).no, "away"))
        assert words(out) == ["push_failed"]
        asks += of(a.Ask, play.until(play.now - START + 10))
    assert len(asks) == 1


def test_a_seal_that_is_reported_twice_goes_up_once() -> None:
    """By the socket and by the scan; also when one of them knows no mark."""
    play = Play().running()
    play.sealed(1, ask=0)
    assert play.sealed(1, ask=0) == []
    assert play.send(e.Sealed("j", seal(1, mark=""))) == []
    play.uploaded()
    assert not of(a.Upload, play.committed())
    assert play.sealed(1, ask=0) == []


def test_the_same_step_written_anew_goes_up_again() -> None:
    """Another mark is another content."""
    play = Play().running()
    play.saved(1, ask=0)
    assert of(a.Upload, play.send(e.Sealed("j", seal(1, mark="2-2"))))


def test_a_late_report_of_an_older_seal_does_not_go_back() -> None:
    """Committing it after the newer one would resume from the past."""
    play = Play().running()
    play.saved(20, ask=0)
    assert words(play.send(e.Sealed("j", seal(10)))) == ["seal_ignored"]
    assert play.view().committed == seal(20)


def test_a_job_that_was_rolled_back_on_purpose_says_so_by_answering_an_ask() -> None:
    """Order, not step, says which of two is newer."""
    play = Play().running()
    play.saved(20, ask=0)
    play.send(e.SaveRequested("j"))
    play.saved(10)
    assert play.view().committed == seal(10)


def test_the_restored_checkpoint_is_not_uploaded_again() -> None:
    """The scan finds it under another mark or none."""
    play = Play().running(restored=seal(30, mark=""))
    assert play.sealed(30, ask=0) == []


def test_a_sealed_checkpoint_on_disk_that_the_store_lacks_goes_up_at_reconnect() -> None:
    """The message about it was lost with the daemon."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy(), running=True, attempt=1))
    (upload,) = of(a.Upload, play.send(e.ReplicatorUp("j", 1, seal(10), seal(20))))
    assert (upload.seal, play.view().committed) == (seal(20), seal(10))


def test_what_the_replicator_committed_while_we_were_away_is_committed() -> None:
    """It finishes an upload by itself when the daemon is gone."""
    play = Play().running()
    play.sealed(10, ask=0)
    play.send(e.ReplicatorDown("j"))
    assert play.send(e.ReplicatorUp("j", 1, seal(10), seal(10))) == [a.Pace("j", None)]
    assert (play.view().committed, play.view().saving) == (seal(10), Saving.IDLE)


def test_uploads_are_tried_again_under_new_numbers_with_a_growing_pause() -> None:
    """0.2 s doubling to 10 s."""
    play = Play().running()
    play.sealed(1, ask=0)
    pauses, numbers = [], set()
    for _ in range(8):
        upload = play.last(a.Upload)
        numbers.add(upload.no)
        play.send(e.UploadFailed("j", upload.no, "away"))
        wakeup = play.core.next_wakeup()
        assert wakeup is not None
        pauses.append(round(wakeup - play.now, 6))
        play.until(wakeup - START)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert len(numbers) == 8


def test_a_pause_is_cut_to_the_deadline() -> None:
    """With 4 s left it waits 2 s, not 10."""
    play = Play().running()
    play.noticed(60)
    play.sealed(1)
    for _ in range(7):
        play.send(e.UploadFailed("j", play.last(a.Upload).no, "away"))
        play.until(min(56, play.now - START + 10))
    play.until(56)
    play.send(e.UploadFailed("j", play.last(a.Upload).no, "away"))
    assert play.core.next_wakeup() == START + 58


def test_a_commit_that_fails_begins_with_a_new_upload_of_the_same_seal() -> None:
    """Idempotent, and every commit has the number of its own upload."""
    play = Play().running()
    play.sealed(1, ask=0)
    play.uploaded()
    play.send(e.CommitFailed("j", play.last(a.Commit).no, "500"))
    (upload,) = of(a.Upload, play.until(0.2))
    (commit,) = of(a.Commit, play.uploaded())
    assert commit.no == upload.no


def test_a_final_failure_is_not_tried_again_and_the_next_seal_is() -> None:
    """The local files are gone; nobody can upload them."""
    play = Play().running()
    play.until(10)
    play.sealed(1)
    out = play.send(e.UploadFailed("j", play.last(a.Upload).no, "gone", final=True))
    assert of(a.Withdraw, out) == [a.Withdraw("j", 1)]
    assert play.view().saving is Saving.IDLE
    assert of(a.Upload, play.sealed(2, ask=0))


def test_stale_completions_change_nothing() -> None:
    """Numbers of before a retry."""
    play = Play().running()
    play.sealed(1, ask=0)
    old = play.last(a.Upload).no
    play.send(e.UploadFailed("j", old, "away"))
    play.until(0.2)
    before = play.view()
    assert play.send(e.Uploaded("j", old, 1, 1.0)) == []
    assert play.send(e.UploadFailed("j", old, "away", final=True)) == []
    assert play.send(e.CommitFailed("j", play.last(a.Upload).no, "?")) == []
    assert play.view() == before


def test_a_late_success_still_counts() -> None:
    """The commit was reported as failed, then as done: head lists it."""
    play = Play().running()
    play.sealed(1, ask=0)
    play.uploaded()
    commit = play.last(a.Commit)
    play.send(e.CommitFailed("j", commit.no, "no answer"))
    assert play.send(e.Committed("j", commit.no, seal(1), "id")) == []
    assert (play.view().committed, play.view().saving) == (seal(1), Saving.IDLE)
    assert not of(a.Upload, play.until(60))


def test_a_late_success_of_an_older_life_is_not_what_this_attempt_has() -> None:
    """The store restored step 5 after it quarantined step 50; an old word about 50 is void."""
    play = Play().running()
    play.sealed(50, ask=0)
    play.uploaded()
    old = play.last(a.Commit)
    play.send(e.LeaseLost("j", "another"))
    play.exited(-15)
    play.until(2)
    play.taken(restored=seal(5))
    out = play.send(e.Committed("j", old.no, seal(50), "id"))
    assert words(out) == ["commit_of_older_life"]
    assert play.view().committed == seal(5)


def test_a_request_asks_now_and_once() -> None:
    """Twice the same wish is one wish; after the answer it is a new one."""
    play = Play().running()
    (ask,) = of(a.Ask, play.send(e.SaveRequested("j")))
    assert (ask.cause, ask.deadline) == ("request", None)
    assert play.send(e.SaveRequested("j")) == []
    play.saved(1)
    (ask,) = of(a.Ask, play.send(e.SaveRequested("j")))
    assert ask.number == 2


def test_a_request_to_a_job_that_does_not_run_is_refused() -> None:
    """With a word for the person."""
    play = Play()
    play.send(e.JobAdded("j", JobPolicy()))
    assert words(play.send(e.SaveRequested("j"))) == ["save_refused"]


def test_a_hint_asks_once_and_decays() -> None:
    """Save early, keep training; a hint that slides is the same hint."""
    play = Play().running()
    (ask,) = of(a.Ask, play.send(e.HintSeen("12:00")))
    assert (ask.cause, ask.deadline) == ("hint", None)
    play.saved(1)
    assert play.send(e.HintSeen("12:00")) == []
    assert play.send(e.HintSeen("12:02"), at=60) == []
    play.exited(0)
    play.released()


def test_after_its_decay_another_hint_is_news() -> None:
    """The same one never is."""
    play = Play().running(policy=JobPolicy(interval=0.0))
    play.send(e.HintSeen("12:00"))
    play.saved(1)
    assert play.send(e.HintSeen("12:00"), at=700) == []
    assert of(a.Ask, play.send(e.HintSeen("12:11"), at=700))


def test_an_ask_of_before_the_exit_is_taken_off_the_board() -> None:
    """The next attempt on this machine must not find it."""
    play = Play().running()
    play.until(10)
    assert a.Withdraw("j", 1) in play.exited(1)


@pytest.mark.parametrize("told", [0, 1])
def test_any_new_seal_answers_an_ask_without_a_deadline(told: int) -> None:
    """Also one that the job began by itself just before."""
    play = Play().running()
    play.until(10)
    play.sealed(1, ask=told)
    play.uploaded()
    assert play.committed() == [a.Withdraw("j", 1)]
