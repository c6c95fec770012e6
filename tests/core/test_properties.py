"""The core in a hostile world: anything may come late, twice, never, or of an older life."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.machine import Core, CoreSettings
from spotwatchd.core.table import Phase
from spotwatchd.core.words import JobPolicy, Life, MachineAction, Notice, Saving, Seal
from tests.core.witness import Witness

JOBS = ("a", "b")
jobs = st.sampled_from(JOBS)
seconds = st.sampled_from([0.1, 1.0, 3.0, 9.0, 31.0, 130.0, 500.0])
# What ends most of what could happen next must be rare, or no play gets far.
rarely = st.integers(0, 7).map(lambda drawn: drawn == 7)
PENDING = a.Take | a.Release | a.Start | a.Upload | a.Commit


def seal(step: int) -> Seal:
    """A sealed checkpoint of ``step``."""
    return Seal(f"step-{step:012d}", step, f"{step}-1")


class HostileWorld(RuleBasedStateMachine):
    """Plays machine, store, replicators, launcher and user, at their worst."""

    @initialize(running=st.sets(jobs), joined=st.sets(jobs))
    def boot(self, running: set[str], joined: set[str]) -> None:
        """Some plays begin with jobs that run already, or few would get as far as a save."""
        self.now = 1000.0
        self.sound = True
        self.core = Core(settings=CoreSettings(), first_number=500)
        self.witness = Witness(self.core)
        self.pending: list[PENDING] = []
        self.managed = dict.fromkeys(JOBS, True)
        self.generation = itertools.count(1)
        self.steps = itertools.count(10, 10)
        for job in sorted(running):
            self.prosper(job)
            if job in joined:
                self.join(job)

    # -- helpers -----------------------------------------------------------------------

    def send(self, event: e.Event) -> None:
        """Deliver an event."""
        self.sound = False  # until the witness is content: a failure ends the play
        actions = self.witness.handle(event, self.now)
        self.sound = True
        for action in actions:
            if isinstance(action, PENDING):
                self.pending.append(action)

    def until(self, target: float) -> None:
        """Let time pass; the timer honours ``next_wakeup``."""
        for _ in range(2000):
            wakeup = self.core.next_wakeup()
            if wakeup is None or wakeup > target:
                break
            self.now = max(self.now, wakeup)
            self.send(e.Woken())
        else:
            raise AssertionError("the timer never comes to rest")
        self.now = max(self.now, target)

    def answer(self, action: PENDING, *, good: bool, final: bool = False, ended: str = "") -> None:
        """The completion of an action, good or bad."""
        job, no = action.job, action.no
        match action:
            case a.Take():
                view = self.core.view(job)
                restored = view.committed if view else None
                taken = e.Taken(job, no, next(self.generation), restored, 1, 0, ended)
                self.send(taken if good else e.TakeFailed(job, no, "away"))
            case a.Release():
                self.send(e.Released(job, no) if good else e.ReleaseFailed(job, no, "away"))
            case a.Start() if not good and final:
                self.send(e.Blocked(job, no, "no data", "mount it"))
            case a.Start():
                self.send(e.Started(job, no) if good else e.StartFailed(job, no, "no such file"))
            case a.Upload():
                bad: e.Event = e.UploadFailed(job, no, "away", final)
                self.send(e.Uploaded(job, no, 100, 3.0) if good else bad)
            case a.Commit():
                bad = e.CommitFailed(job, no, "away", final)
                self.send(e.Committed(job, no, action.seal, f"id-{no}") if good else bad)

    def alive(self, job: str) -> bool:
        """Its processes exist, as the world knows."""
        return job in self.witness.traces and self.witness.traces[job].alive

    # -- rules -------------------------------------------------------------------------

    @rule(job=jobs, managed=st.booleans(), interval=st.sampled_from([None, None, 0.0, 20.0]))
    def add(self, job: str, managed: bool, interval: float | None) -> None:
        """Register."""
        self.managed[job] = managed
        self.send(e.JobAdded(job, JobPolicy(managed=managed, interval=interval)))

    @rule(job=jobs, asked=st.integers(0, 5), told=st.booleans())
    def adopt(self, job: str, asked: int, told: bool) -> None:
        """Find a job of an earlier daemon that runs."""
        if job not in self.core.jobs():
            self.managed[job] = True
            self.send(e.JobAdded(job, JobPolicy(), True, 1, asked, False, told))

    @rule(
        job=jobs,
        really=rarely,
        holds=st.booleans(),
        found=st.sampled_from(["", "", "sealed", "committed"]),
    )
    def connect(self, job: str, really: bool, holds: bool, found: str) -> None:
        """A replicator connects, with or without a lease, maybe with news."""
        view = self.core.view(job)
        if view is None or (view.linked and not really):
            return
        generation = next(self.generation) if holds else None
        committed = view.committed if view else None
        newest = view.sealed if view else None
        if found == "sealed":
            newest = seal(next(self.steps))
        if found == "committed" and newest is not None:
            committed = newest
        self.send(e.ReplicatorUp(job, generation, committed, newest))

    @rule(job=jobs)
    def prosper(self, job: str) -> None:
        """Without this, few plays would get as far as a checkpoint: all goes well for a while."""
        if job not in self.core.jobs():
            self.add(job, managed=True, interval=None)
        view = self.core.view(job)
        if view is not None and not view.linked:
            self.send(e.ReplicatorUp(job, view.generation, view.committed, view.sealed))
        for action in self.pending:  # grows while it is walked: answers lead to actions
            if action.job == job and not isinstance(action, a.Release):
                self.answer(action, good=True)

    @rule(job=jobs, really=rarely)
    def disconnect(self, job: str, really: bool) -> None:
        """A replicator's connection breaks."""
        if really:
            self.send(e.ReplicatorDown(job))

    @precondition(lambda self: self.pending)
    @rule(
        back=st.integers(0, 3),
        good=st.sampled_from([True, True, True, False]),
        final=st.booleans(),
        ended=st.sampled_from(["", "", "", "finished", "crashed"]),
    )
    def complete(self, back: int, good: bool, final: bool, ended: str) -> None:
        """A late, duplicate or timely completion of one of the latest actions."""
        action = self.pending[max(0, len(self.pending) - 1 - back)]
        self.answer(action, good=good, final=final, ended=ended)

    @precondition(lambda self: len(self.pending) > 3)
    @rule(data=st.data(), good=st.booleans())
    def complete_an_old_one(self, data: st.DataObject, good: bool) -> None:
        """A completion of any action ever."""
        self.answer(data.draw(st.sampled_from(self.pending)), good=good)

    @rule(job=jobs, no=st.integers(0, 520), which=st.integers(0, 6))
    def invent(self, job: str, no: int, which: int) -> None:
        """A completion with a number of an earlier daemon, or of nobody."""
        made: list[e.Event] = [
            e.Taken(job, no, 1, None),
            e.Released(job, no),
            e.Uploaded(job, no, 1, 1.0),
            e.UploadFailed(job, no, "?", True),
            e.CommitFailed(job, no, "?"),
            e.Started(job, no),
            e.Blocked(job, no, "?", ""),
        ]
        self.send(made[which])

    @rule(job=jobs, ask=st.sampled_from(["open", "none", "open", "old"]), measured=st.booleans())
    def save(self, job: str, ask: str, measured: bool) -> None:
        """The job seals a checkpoint."""
        view = self.core.view(job)
        newest = view.asked if view else 0
        number = {"none": 0, "open": newest, "old": max(0, newest - 1)}[ask]
        if self.alive(job):
            flush = 0.5 if measured else None
            self.send(e.Sealed(job, seal(next(self.steps)), number, flush))

    @rule(job=jobs, ask=st.booleans(), back=st.integers(1, 4))
    def report_again(self, job: str, ask: bool, back: int) -> None:
        """A seal is reported twice, or an old one late."""
        told = self.witness.traces[job].sealed if job in self.witness.traces else []
        view = self.core.view(job)
        if told and view:
            self.send(e.Sealed(job, told[max(0, len(told) - back)], view.asked if ask else 0))

    @rule(job=jobs, back=rarely, part=st.integers(0, 4), size=st.sampled_from([100, 9000]))
    def progress(self, job: str, back: bool, part: int, size: int) -> None:
        """An upload reports how far it is, or one of before does so late."""
        uploads = [x for x in self.pending if isinstance(x, a.Upload) and x.job == job]
        if uploads:
            upload = uploads[0 if back else -1]
            self.send(e.Progress(job, upload.no, part * size // 4, size))

    @rule(speed=st.sampled_from([5, 40]))
    def race(self, speed: int) -> None:
        """All uploads report for two seconds, as on any day: the link becomes known."""
        for turn in range(4):
            for job in JOBS:
                uploads = [x for x in self.pending if isinstance(x, a.Upload) and x.job == job]
                if uploads:
                    self.send(e.Progress(job, uploads[-1].no, turn * speed, 9000))
            self.until(self.now + 0.5)

    @rule(job=jobs, part=st.integers(0, 4), size=st.sampled_from([0, 100, 9000]))
    def growing(self, job: str, part: int, size: int) -> None:
        """A checkpoint is sent while it is written."""
        self.send(e.Growing(job, part * size // 4, size))

    @rule(job=jobs)
    def join(self, job: str) -> None:
        """A process registers."""
        self.send(e.ProcessJoined(job, "1"))

    @rule(job=jobs, status=st.sampled_from([75, 0, 1, -15, None]), finished=rarely, really=rarely)
    def exit(self, job: str, status: int | None, finished: bool, really: bool) -> None:
        """The processes end."""
        view = self.core.view(job)
        asked = view is not None and view.ask is not None and view.ask.cause in ("notice", "stop")
        if (really or asked) and self.alive(job):
            self.send(e.JobExited(job, view.attempt if view else 0, status, finished))

    @rule(job=jobs)
    def exit_of_older_attempt(self, job: str) -> None:
        """The end of an earlier attempt is told late."""
        view = self.core.view(job)
        if view and view.attempt > 1 and self.managed[job]:
            self.send(e.JobExited(job, view.attempt - 1, 0, True))

    @rule(job=jobs, really=rarely)
    def lose_lease(self, job: str, really: bool) -> None:
        """Another owner has the job."""
        if really:
            self.send(e.LeaseLost(job, "generation 9 has it"))

    @rule(job=jobs)
    def request(self, job: str) -> None:
        """A person wants a checkpoint."""
        self.send(e.SaveRequested(job))

    @rule(job=jobs, really=rarely)
    def stop(self, job: str, really: bool) -> None:
        """A person wants it to end."""
        if really:
            self.send(e.StopRequested(job))

    @rule(job=jobs, really=rarely)
    def remove(self, job: str, really: bool) -> None:
        """Forget a job that does not run."""
        if really and not self.alive(job):
            self.send(e.JobRemoved(job))

    @precondition(lambda self: self.now > 1005.0)
    @rule(
        source=st.sampled_from(["ec2-spot", "ec2-event"]),
        left=st.sampled_from([-500.0, -100.0, 0.0, 5.0, 60.0, 108.0, 120.0, 600.0]),
        fresh=st.booleans(),
    )
    def notice(self, source: str, left: float, fresh: bool) -> None:
        """A notice: new, repeated, sliding, late, past or stale."""
        deadline = self.now + left
        key = f"{deadline}" if fresh else "the usual"
        self.send(e.NoticeSeen(Notice(source, MachineAction.TERMINATE, deadline, key)))

    @rule(source=st.sampled_from(["ec2-spot", "ec2-event"]), really=rarely)
    def withdraw(self, source: str, really: bool) -> None:
        """The notice is gone."""
        if really:
            self.send(e.NoticeGone(source))

    @rule(key=st.sampled_from(["x", "y"]))
    def hint(self, key: str) -> None:
        """A rebalance recommendation."""
        self.send(e.HintSeen(key))

    @rule(passed=seconds)
    def wait(self, passed: float) -> None:
        """Time passes."""
        self.until(self.now + passed)

    @rule()
    def wake_for_nothing(self) -> None:
        """The timer fires early."""
        self.send(e.Woken())

    # -- the end -----------------------------------------------------------------------

    def teardown(self) -> None:
        """A timer alone ends the drain; a friendly world then brings every job to rest."""
        if not getattr(self, "sound", False):
            return
        drain = self.core.drain()
        if drain is not None:
            self.until(drain.deadline)
            after = self.core.drain()
            assert after is None or after.phase is Phase.CLOSED, "the timer did not end the drain"
        self.befriend()

    def befriend(self) -> None:
        """Everybody answers, and well: no job is stuck."""
        for source in ("ec2-spot", "ec2-event"):
            self.send(e.NoticeGone(source))
        for job in JOBS:
            view = self.core.view(job)
            if view is not None and not view.linked:
                self.send(e.ReplicatorUp(job, view.generation, view.committed, view.sealed))
        for _ in range(40):
            self.serve()
            if all(self.complaint(job) is None for job in self.core.jobs()):
                return
            self.until(self.now + 70.0)
        raise AssertionError([self.complaint(job) for job in self.core.jobs()])

    def serve(self) -> None:
        """One friendly round: all that is outstanding is answered, all that should end ends."""
        while self.pending:
            self.answer(self.pending.pop(0), good=True)
        for job in JOBS:
            view = self.core.view(job)
            if view is not None and view.life is Life.STOPPING:
                self.send(e.JobExited(job, view.attempt, -15, False))

    def complaint(self, job: str) -> str | None:
        """None when the job runs, is over, or waits for somebody else's processes."""
        view = self.core.view(job)
        assert view is not None
        parked = view.life is Life.WAITING and not self.managed[job] and view.generation is None
        calm = view.saving in (Saving.IDLE, Saving.ASKED)
        if calm and (view.life in (Life.RUNNING, Life.DONE) or parked):
            return None
        return f"{job} is stuck: {view}"


HostileWorld.TestCase.settings = settings(stateful_step_count=50)
TestHostileWorld = HostileWorld.TestCase
