"""What is kept, what a job resumes from, what may be deleted, how head changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.core import fence
from spotwatchd.core.head import Head, Listed, Quarantined
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Lease, Owner, Tenure, Terms, at_once, look, may_take
from spotwatchd.core.manifest import Manifest
from spotwatchd.core.retention import (
    LocalCopy,
    Retention,
    candidates,
    local_surplus,
    ripe,
    unlisted,
)
from spotwatchd.errors import LeaseLost

MINE = Tenure(5, "t5")
KEEP_TWO = Retention(last=2)


def listed(generation: int, sequence: int, step: int) -> Listed:
    """A committed checkpoint."""
    return Listed(CheckpointId(generation, sequence, step), 1, "", "")


def head(*entries: Listed, **fields: object) -> Head:
    """A head of MINE that lists ``entries``."""
    made = Head("job", "run", 5, "t5", checkpoints=entries)
    return replace(made, **fields)  # type: ignore[arg-type]


def bad(entry: Listed) -> Quarantined:
    """``entry`` in quarantine."""
    return Quarantined(entry.id, "flipped", "")


def commit(before: Head, entry: Listed, retention: Retention = KEEP_TWO) -> Head:
    """List ``entry`` in ``before``."""
    return fence.commit(before, MINE, fence.Addition(entry, None, retention))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 5), st.integers(0, 4))
def test_something_restorable_is_always_listed(steps: list[int], last: int, every: int) -> None:
    """Invariant 2: after each commit the newest is listed, and so is every one kept before."""
    now = head()
    for sequence, step in enumerate(steps, 1):
        entry = listed(5, sequence, step)
        now = commit(now, entry, Retention(last, every))
        assert now.checkpoints[-1] == entry
        assert len(now.checkpoints) >= min(sequence, max(1, last))
        assert list(now.checkpoints) == sorted(now.checkpoints, key=lambda each: each.id)
    kept = {entry.id.sequence for entry in now.checkpoints}
    if every:
        assert kept >= {s for s in range(1, len(steps) + 1) if s % every == 0}


@pytest.mark.parametrize("tenure", [Tenure(4, "t4"), Tenure(5, "other"), Tenure(6, "t6")])
def test_a_fenced_owner_changes_nothing(tenure: Tenure) -> None:
    """Invariant 3: every step of an owner that head does not name is refused."""
    now = head(listed(4, 1, 10))
    addition = fence.Addition(listed(4, 2, 20), None, KEEP_TWO)
    with pytest.raises(LeaseLost):
        fence.commit(now, tenure, addition)
    with pytest.raises(LeaseLost):
        fence.quarantine(now, tenure, bad(now.checkpoints[0]))
    with pytest.raises(LeaseLost):
        fence.release(now, tenure, "finished", 0, None)


def test_head_is_claimed_upwards_only() -> None:
    """A head of the same or a higher generation is never rewritten."""
    now = head(listed(4, 1, 10), attempts=3, state="interrupted")
    claimed = fence.claim(now, Tenure(6, "t6"), "job", "run")
    assert (claimed.generation, claimed.tenure, claimed.attempts) == (6, "t6", 4)
    assert claimed.checkpoints == now.checkpoints
    assert fence.claim(claimed, Tenure(6, "t6"), "job", "run") == claimed
    for loser in (Tenure(6, "other"), Tenure(5, "t5")):
        with pytest.raises(LeaseLost):
            fence.claim(claimed, loser, "job", "run")


def test_steps_may_be_repeated() -> None:
    """Each step applied to its own result changes nothing: a lost answer is tried again."""
    entry = listed(5, 1, 10)
    once = commit(head(), entry)
    assert commit(once, entry) == once
    worse = fence.quarantine(once, MINE, bad(entry))
    assert fence.quarantine(worse, MINE, bad(entry)) == worse
    gone = fence.release(once, MINE, "preempted", 1, {"a": 1})
    assert fence.release(gone, MINE, "preempted", 1, None) == gone


def test_a_new_step_clears_the_crashes() -> None:
    """A commit beyond every step so far does; one below does not."""
    now = head(listed(4, 1, 50), crashes=2)
    assert commit(now, listed(5, 1, 40)).crashes == 2
    assert commit(now, listed(5, 1, 51)).crashes == 0


def test_a_commit_tells_of_an_interruption() -> None:
    """The next machine learns of it even if this one dies before it can release."""
    addition = fence.Addition(listed(5, 1, 10), {"machine": "i-a"}, KEEP_TWO)
    now = fence.commit(head(), MINE, addition)
    assert (now.state, now.interruption) == ("interrupted", {"machine": "i-a"})
    assert commit(now, listed(5, 2, 20)).interruption is None


def test_resume_goes_by_commits_and_never_by_steps() -> None:
    """After a fall-back the newer commit has the smaller step, and is the one to use."""
    now = head(listed(4, 1, 40), listed(5, 1, 30))
    assert [entry.id.step for entry in candidates(now)] == [30, 40]


def test_quarantined_checkpoints_are_not_used() -> None:
    """Even if head lists them (a rebuilt one may)."""
    good, worse = listed(4, 1, 40), listed(5, 1, 50)
    assert candidates(head(good, worse, quarantine=(bad(worse),))) == [good]


@pytest.mark.parametrize(
    ("crashes", "order"),
    [(0, [3, 2, 1]), (2, [3, 2, 1]), (3, [2, 1, 3]), (6, [1, 3, 2]), (99, [1, 3, 2])],
)
def test_a_checkpoint_that_crashes_the_job_is_skipped(crashes: int, order: list[int]) -> None:
    """Three crashes without a new step suspect the newest one, three more the next."""
    now = head(listed(5, 1, 1), listed(5, 2, 2), listed(5, 3, 3), crashes=crashes)
    assert [entry.id.step for entry in candidates(now)] == order


def test_quarantine_is_kept_until_everything_listed_is_newer() -> None:
    """A person has time to look at it; then it goes like any other."""
    now = fence.quarantine(head(listed(4, 1, 10), listed(4, 2, 20)), MINE, bad(listed(4, 2, 20)))
    now = commit(now, listed(5, 1, 30))
    assert [entry.id.step for entry in now.quarantine] == [20]
    now = commit(commit(now, listed(5, 2, 40)), listed(5, 3, 50))
    assert now.quarantine == ()


def test_head_is_rebuilt_in_the_order_of_the_commits() -> None:
    """(generation, sequence) decides; the step is what it is."""
    ids = [CheckpointId(2, 1, 30), CheckpointId(1, 2, 90), CheckpointId(1, 1, 40)]
    manifests = [Manifest("job", "run", each, "", "", ()) for each in ids]
    rebuilt = fence.rebuild("job", "", manifests)
    assert [entry.id.step for entry in rebuilt.checkpoints] == [40, 90, 30]
    assert (rebuilt.generation, rebuilt.run_id) == (2, "run")
    assert candidates(rebuilt)[0].id.step == 30


@given(st.integers(0, 9), st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4))
def test_a_new_generation_is_above_everything(lease: int, in_head: int, stored: list[int]) -> None:
    """Whichever document was lost or restored from an old copy."""
    found = [CheckpointId(generation, 1, 1) for generation in stored]
    new = fence.next_generation(lease, Head("job", "run", in_head), found)
    assert new > max([lease, in_head, *stored])


def test_only_what_nobody_can_want_is_deleted() -> None:
    """Not what head lists or holds in quarantine, not the future, not what is being written."""
    now = head(listed(5, 1, 10), quarantine=(bad(listed(4, 9, 9)),))
    writing, dead = CheckpointId(5, 2, 20), CheckpointId(5, 3, 20)
    old = CheckpointId(3, 1, 5)
    future = CheckpointId(6, 1, 30)
    stored = [now.checkpoints[0].id, now.quarantine[0].id, writing, dead, old, future]
    assert unlisted(stored, now, in_progress=frozenset({writing})) == {dead, old}


def test_deletion_waits_for_the_grace_period() -> None:
    """Counted from when it was first seen unlisted."""
    one, two = CheckpointId(1, 1, 1), CheckpointId(1, 2, 2)
    assert ripe({two: 5.0, one: 0.0}, 59.9, 60.0) == []
    assert ripe({two: 5.0, one: 0.0}, 60.0, 60.0) == [one]


def test_local_copies_that_exist_nowhere_else_stay() -> None:
    """Two committed ones stay as well; a full disk leaves one."""
    copies = [LocalCopy(str(n), committed=n != 2) for n in range(1, 6)]
    assert local_surplus(copies, disk_full=False) == ["1", "3"]
    assert local_surplus(copies, disk_full=True) == ["1", "3", "4"]
    assert local_surplus(copies[:1], disk_full=True) == []


# ------------------------------------------------------------------ the lease's arithmetic

TERMS = Terms.of(30.0)


def test_the_default_margin() -> None:
    """A tenth and a second, and for very short leases a third."""
    assert (TERMS.seconds, TERMS.margin) == (30.0, 4.0)
    assert Terms.of(1.2).margin == pytest.approx(0.4)
    assert Terms.of(30.0, 1.0).margin == 1.0
    assert TERMS.renew_every == 10.0


def test_a_holder_counts_from_when_it_sent() -> None:
    """Valid for duration less margin; a tenure of an earlier life is not valid at all."""
    held = Tenure(1, "t", sent_at=100.0)
    assert held.valid(125.9, TERMS)
    assert not held.valid(126.0, TERMS)
    assert not Tenure(1, "t").valid(0.0, TERMS)
    assert held.renewed(90.0) == held
    assert held.renewed(110.0).valid(135.9, TERMS)


def test_a_taker_sees_one_nonce_for_a_full_duration() -> None:
    """A new nonce begins the wait anew; the duration is the holder's."""
    seen = look(None, "n1", 30.0, 0.0)
    seen = look(seen, "n1", 30.0, 29.9)
    assert not may_take(seen, 29.9)
    assert may_take(seen, 30.0)
    seen = look(seen, "n2", 30.0, 29.9)
    assert not may_take(seen, 59.8)
    assert may_take(look(seen, "n2", 30.0, 59.9), 59.9)


@pytest.mark.parametrize(
    ("owner", "held", "free"),
    [
        (Owner("i-b", "b1"), True, False),
        (Owner("i-b", "b1"), False, True),
        (Owner("i-a", "b1"), True, False),
        (Owner("i-a", "b0"), True, True),
        (Owner("", "b0"), True, False),
    ],
)
def test_who_need_not_wait(owner: Owner, held: bool, free: bool) -> None:
    """A lease that was given back, and one of this machine in another boot."""
    lease = Lease("job", owner, 1, 30.0, "n", held)
    me = Owner("i-a" if owner.machine else "", "b1")
    assert at_once(lease, me) is free
