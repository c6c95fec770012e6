"""The core with more jobs than GPUs: seats are taken before leases and freed with processes."""

from __future__ import annotations

import random

import pytest

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.words import JobPolicy, Life, Outcome
from tests.core.play import Play, of

TWO = e.ResourcesSeen((0, 1))


def asks(gpus: int | None, priority: int = 0, since: str = "", **more: object) -> JobPolicy:
    """The policy of a job that asks for GPUs."""
    return JobPolicy(gpus=gpus, priority=priority, since=since, **more)  # type: ignore[arg-type]


def added(play: Play, job: str, policy: JobPolicy) -> Play:
    """Register it, with its replicator there."""
    play.send(e.JobAdded(job, policy))
    play.send(e.ReplicatorUp(job, None, None, None))
    return play


def full() -> Play:
    """Two GPUs, a job on each."""
    play = Play()
    play.send(TWO)
    for name in ("a", "b"):
        added(play, name, asks(1, since=name))
        play.taken(name)
        play.started(name)
    return play


def test_each_start_says_which_gpus() -> None:
    """By index, none twice; a job that did not ask is told nothing."""
    play = full()
    assert play.last(a.Start, "a").gpus == (0,)
    assert play.last(a.Start, "b").gpus == (1,)
    assert play.view("a").gpus == (0,)
    other = Play().running("c", policy=asks(None))
    assert other.last(a.Start, "c").gpus is None
    assert other.view("c").gpus is None


def test_what_does_not_fit_takes_no_lease() -> None:
    """It is queued with the reason; another machine may have it."""
    play = added(full(), "c", asks(1))
    assert play.view("c").life is Life.WAITING
    why = play.view("c").queued
    assert why is not None
    assert why.reason == "needs 1 GPU, 0 of 2 free: a, b hold the others"
    assert not [x for x in play.actions if isinstance(x, a.Take) and x.job == "c"]
    assert play.view("c").generation is None


def test_a_gpu_is_free_when_the_processes_are_gone() -> None:
    """Not when the job is told to stop, and before its lease is given back."""
    play = added(full(), "c", asks(1))
    play.send(e.StopRequested("a", save=False))
    assert play.view("a").life is Life.STOPPING
    assert play.view("c").queued is not None
    out = play.exited(0, "a")
    assert [take.job for take in of(a.Take, out)] == ["c"]
    play.taken("c")
    assert play.last(a.Start, "c").gpus == (0,)


@pytest.mark.parametrize("end", ["crash", "blocked", "start failed"])
def test_a_failed_job_frees_its_gpus(end: str) -> None:
    """Whether it crashed, lacks something, or could not be started."""
    play = added(full(), "c", asks(1))
    if end == "crash":
        play.exited(1, "b")
    else:
        play.exited(75, "b")
        assert play.view("c").life is Life.TAKING
        play.taken("c")
        number = play.last(a.Start, "c").no
        play.send(
            e.Blocked("c", number, "no data", "mount it")
            if end == "blocked"
            else e.StartFailed("c", number, "no such program")
        )
        play.until(9.0)
        play.released("b")
        play.until(19.0)
        assert play.view("b").life is Life.TAKING
        return
    play.taken("c")
    assert play.last(a.Start, "c").gpus == (1,)


def test_a_job_that_is_given_up_frees_its_gpus_for_good() -> None:
    """After its last crash nothing of the machine is its."""
    play = Play()
    play.send(TWO)
    added(play, "a", asks(2, max_crashes=1))
    play.taken("a")
    play.started("a")
    added(play, "c", asks(1))
    play.exited(1, "a")
    play.until(5.0)
    play.released("a")
    assert play.view("a").life is Life.DONE
    assert play.view("a").outcome is Outcome.CRASHED
    play.taken("c")
    assert play.last(a.Start, "c").gpus == (0,)


def test_the_order_is_priority_then_registration() -> None:
    """Of three that wait, whichever replicator was there first."""
    play = full()
    added(play, "late", asks(1, since="2"))
    added(play, "early", asks(1, since="1"))
    added(play, "first", asks(1, priority=1, since="3"))
    play.exited(1, "a")
    assert play.view("first").life is Life.TAKING
    play.exited(1, "b")
    assert play.view("early").life is Life.TAKING
    assert play.view("late").life is Life.WAITING


def test_a_replicator_that_is_slow_to_start_costs_no_place() -> None:
    """For a while: then the others go on without the job."""
    play = Play()
    play.send(TWO)
    play.send(e.JobAdded("first", asks(2, priority=1)))
    added(play, "second", asks(1))
    assert play.view("second").life is Life.WAITING
    play.until(9.0)
    assert play.view("second").life is Life.WAITING
    play.until(11.0)
    assert play.view("second").life is Life.TAKING


def test_jobs_found_again_keep_their_gpus() -> None:
    """A daemon that comes back gives none of them away, before and after it looked."""
    play = Play()
    play.send(e.JobAdded("a", asks(1), running=True, attempt=1, gpus=(1,)))
    added(play, "c", asks(2))
    added(play, "d", asks(None, since="z"))
    play.send(TWO)
    assert play.view("a").gpus == (1,)
    for waiting in ("c", "d"):
        assert play.view(waiting).life is Life.WAITING
    play.exited(75, "a")
    assert play.view("c").life is Life.TAKING


def test_a_job_found_again_without_a_note_blocks_every_gpu() -> None:
    """Nobody knows which it has."""
    play = Play()
    play.send(TWO)
    play.send(e.JobAdded("a", asks(1), running=True, attempt=1))
    added(play, "c", asks(1))
    assert play.view("c").life is Life.WAITING
    play.exited(75, "a")
    assert play.view("c").life is Life.TAKING


def test_a_gpu_that_vanished_is_not_given() -> None:
    """Who has it keeps it until it ends; then it is nobody's."""
    play = added(full(), "c", asks(1))
    play.send(e.ResourcesSeen((0,)))
    play.exited(1, "b")
    assert play.view("c").life is Life.WAITING
    play.exited(1, "a")
    play.taken("c")
    assert play.last(a.Start, "c").gpus == (0,)


def test_a_lease_elsewhere_keeps_no_gpu_here() -> None:
    """A take that waits for another machine leaves its room to others, and comes back for it."""
    play = Play()
    play.send(TWO)
    added(play, "there", asks(2, priority=1))
    added(play, "here", asks(1))
    assert play.view("here").life is Life.WAITING
    out = play.send(e.TakeWaits("there", play.last(a.Take, "there").no))
    assert [take.job for take in of(a.Take, out)] == ["here"]
    assert play.view("there").life is Life.TAKING
    out = play.taken("here")
    # There is no room for two GPUs any more, so it does not wait for the lease either.
    assert [release.job for release in of(a.Release, out)] == ["there"]
    play.started("here")
    play.released("there")
    assert play.view("there").life is Life.WAITING
    assert play.view("there").queued is not None
    added(play, "small", asks(1))  # what runs elsewhere holds nobody up
    assert play.view("small").life is Life.TAKING
    play.exited(75, "here")  # now there may be room again, so it looks for its lease
    assert play.view("there").life is Life.TAKING


def test_of_two_that_wait_elsewhere_one_gets_the_room() -> None:
    """The other stops waiting for its lease."""
    play = Play()
    play.send(TWO)
    for name in ("x", "y"):
        added(play, name, asks(2, since=name))
        play.send(e.TakeWaits(name, play.last(a.Take, name).no))
    assert play.view("x").life is play.view("y").life is Life.TAKING
    play.taken("y")
    assert play.last(a.Start, "y").gpus == (0, 1)
    assert play.last(a.Release, "x").outcome is Outcome.PREEMPTED
    assert play.view("x").life is Life.RELEASING


def test_a_lease_won_without_room_is_given_back_as_it_was() -> None:
    """The crashes that head counts stay counted, and nothing is started."""
    play = Play()
    play.send(TWO)
    added(play, "x", asks(2))
    play.send(e.TakeWaits("x", play.last(a.Take, "x").no))
    added(play, "y", asks(2))  # it has the room from here on, while it goes for its lease
    out = play.taken("x", crashes=2)
    assert not of(a.Start, out)
    (release,) = of(a.Release, out)
    assert (release.job, release.crashes, release.outcome) == ("x", 2, Outcome.PREEMPTED)


def test_a_spec_that_changed_elsewhere_gets_another_seat() -> None:
    """The job turned out to need more than it was registered with here."""
    play = Play()
    play.send(TWO)
    added(play, "a", asks(1))
    play.send(e.JobAdded("a", asks(2)))
    play.taken("a")
    assert play.last(a.Start, "a").gpus == (0, 1)


def test_a_changed_spec_without_room_goes_back_to_the_queue() -> None:
    """It asked for one GPU here, and is found to need two."""
    play = full()
    play.exited(75, "b")
    play.until(3.0)
    play.released("b")
    play.until(9.0)  # it goes for its lease again
    play.send(e.JobAdded("b", asks(2)))
    assert play.last(a.Release, "b").outcome is Outcome.PREEMPTED
    play.released("b")
    play.until(19.0)
    why = play.view("b").queued
    assert why is not None
    assert why.reason == "needs 2 GPUs, 1 of 2 free: a hold the others"


def test_a_notice_ends_the_queue() -> None:
    """A machine that goes away seats nobody; what waits is for the others."""
    play = added(full(), "c", asks(1))
    play.noticed(60.0)
    assert play.view("c").queued is None
    play.exited(75, "a")
    assert play.view("c").life is Life.WAITING


def test_who_runs_by_itself_does_not_queue() -> None:
    """A process that somebody else started is there already."""
    play = full()
    play.running("own", policy=JobPolicy(managed=False, gpus=1))
    assert play.view("own").life is Life.RUNNING


class Floor:
    """Two machines' worth of trouble: jobs come, start, crash, move, while GPUs come and go."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.play = Play()
        self.has: dict[str, tuple[int, ...]] = {}
        self.gpus: tuple[int, ...] = (0, 1, 2, 3)
        self.send(e.ResourcesSeen(self.gpus))

    def send(self, event: e.Event) -> None:
        """Deliver an event and look at every start."""
        if isinstance(event, e.JobExited):
            self.has.pop(event.job, None)
        for start in of(a.Start, self.play.send(event)):
            self._started(start)

    def _started(self, start: a.Start) -> None:
        given = start.gpus
        assert given is not None
        wanted = self.play.core._world.jobs[start.job].policy.gpus
        assert len(given) == wanted
        assert set(given) <= set(self.gpus), "given, and not there"
        used = [gpu for gpus in self.has.values() for gpu in gpus]
        assert not set(given) & set(used), f"{start.job} was given {given}, used are {used}"
        self.has[start.job] = given

    def outstanding(self, kind: type[a.Take | a.Start | a.Release], job: str) -> int | None:
        """The number that the core waits for."""
        known = self.play.core._world.jobs[job]
        numbers = {a.Take: known.hold.take, a.Start: known.start, a.Release: known.hold.release}
        return numbers[kind]

    def step(self) -> None:
        """One thing happens."""
        jobs = self.play.core.jobs()
        if len(jobs) < 6 and self.rng.random() < 0.2:
            name = f"j{len(jobs)}"
            policy = asks(self.rng.randrange(4), self.rng.randrange(2), str(self.rng.random()))
            self.send(e.JobAdded(name, policy))
            self.send(e.ReplicatorUp(name, None, None, None))
            return
        if self.rng.random() < 0.1:
            self.gpus = tuple(i for i in range(4) if self.rng.random() < 0.8)
            self.send(e.ResourcesSeen(self.gpus))
        if self.rng.random() < 0.3:
            self.wait(self.rng.choice([0.5, 3.0, 70.0]))
        if jobs:
            self.move(self.rng.choice(jobs))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        play, end = self.play, self.play.now + seconds
        while (wakeup := play.core.next_wakeup()) is not None and wakeup <= end:
            play.now = max(play.now, wakeup)
            self.send(e.Woken())
        play.now = end

    def move(self, job: str) -> None:
        """A job's world answers, or something befalls it."""
        take = self.outstanding(a.Take, job)
        start = self.outstanding(a.Start, job)
        release = self.outstanding(a.Release, job)
        chance = self.rng.random()
        view = self.play.view(job)
        if release is not None:
            self.send(e.Released(job, release))
        elif take is not None and view.life is Life.TAKING:
            waits = e.TakeWaits(job, take)
            fails = e.TakeFailed(job, take, "away")
            won = e.Taken(job, take, self.rng.randrange(10**6), None, 1)
            self.send(waits if chance < 0.3 else fails if chance < 0.4 else won)
        elif start is not None:
            self.send(e.Started(job, start))
        elif view.life is Life.RUNNING and chance < 0.5:
            self.send(e.JobExited(job, view.attempt, 75, finished=False))
        elif view.life is Life.RUNNING and chance < 0.6:
            self.send(e.LeaseLost(job, "partition"))
        elif view.life is Life.STOPPING:
            self.send(e.JobExited(job, view.attempt, None, finished=False))
        elif chance < 0.1:
            self.send(e.ReplicatorDown(job))
        else:
            self.send(e.ReplicatorUp(job, None, None, None))

    def rest(self) -> None:
        """Everything answers well and jobs finish: nobody is left who could have run."""
        self.gpus = (0, 1, 2, 3)
        self.send(e.ResourcesSeen(self.gpus))
        for _ in range(60):
            for job in self.play.core.jobs():
                self.finish(job)
            self.wait(70.0)
        left = {job: self.play.view(job).life.value for job in self.play.core.jobs()}
        assert set(left.values()) <= {"done"}, left

    def finish(self, job: str) -> None:
        """Bring a job a little further towards its end."""
        view = self.play.view(job)
        if not view.linked:
            self.send(e.ReplicatorUp(job, view.generation, None, None))
        for kind in (a.Release, a.Take, a.Start):
            number = self.outstanding(kind, job)
            if number is None:
                continue
            if kind is a.Release:
                self.send(e.Released(job, number))
            elif kind is a.Take:
                self.send(e.Taken(job, number, self.play.view(job).attempt + 10**6, None, 1))
            else:
                self.send(e.Started(job, number))
        if self.play.view(job).life in (Life.RUNNING, Life.STOPPING):
            self.send(e.JobExited(job, self.play.view(job).attempt, 0, finished=True))


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_over_long_walks_no_gpu_is_used_twice_and_all_finish(first: int) -> None:
    """Whatever comes in whatever order; a failure names its seed."""
    for seed in range(first, first + 30):
        floor = Floor(seed)
        try:
            for _ in range(60):
                floor.step()
            floor.rest()
        except Exception as error:
            raise AssertionError(f"walk {seed}: {error}") from error
