"""Watches a core from outside and holds it to its promises after every event.

It knows only events, actions and public views: what a reader of the journal would know.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.machine import Core, JobView
from spotwatchd.core.table import Phase
from spotwatchd.core.words import Life, Seal, Settlement

NUMBERED = (a.Take, a.Release, a.Start, a.Upload)
ANSWERS: dict[type, type] = {
    e.Taken: a.Take,
    e.TakeFailed: a.Take,
    e.Released: a.Release,
    e.ReleaseFailed: a.Release,
    e.Started: a.Start,
    e.StartFailed: a.Start,
    e.Blocked: a.Start,
    e.Uploaded: a.Upload,
    e.UploadFailed: a.Upload,
    e.CommitFailed: a.Commit,
}


@dataclass
class Trace:
    """What is known of one job from outside."""

    alive: bool = False
    generation: int | None = None
    right: bool = False  # the lease is held, as far as anybody was told
    taking: bool = False
    fenced: bool = False  # the attempt that runs lost its lease
    taken: bool = False  # since the last start or exit
    before_release: tuple[bool, bool] = (False, False)
    ran: bool = False  # since the lease was taken
    asked: int = 0
    ask: a.Ask | None = None
    asked_after: int = 0
    uploaded: set[int] = field(default_factory=set)
    upload: a.Upload | None = None
    newest: dict[type, int] = field(default_factory=dict)
    answered: set[tuple[type, int]] = field(default_factory=set)
    pace: float | None = None
    speaks: bool = False
    facts: list[Seal] = field(default_factory=list)
    sealed: list[Seal] = field(default_factory=list)


class Witness:
    """Feeds events to a core and asserts the invariants of the design."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.traces: dict[str, Trace] = {}
        self.numbers: set[int] = set()
        self.drain: a.DrainOpened | None = None
        self.deadline = 0.0
        self.draining = False
        self.closed = True
        self.settled: dict[str, Settlement] = {}
        self.adopted: set[str] = set()
        self.log: list[str] = []

    def handle(self, event: e.Event, now: float) -> list[a.Action]:
        """Pass the event on and check what comes of it."""
        name = getattr(event, "job", None)
        before = self.core.view(name) if name else None
        stale = self._is_stale(event)
        out = self.core.handle(event, now)
        self.log.append(f"{now:.3f} {event} -> {out}")
        if stale:
            self._changes_nothing(event, before, out)
        self._see_event(event, before.life if before else None)
        for action in out:
            self._see_action(action, now)
        self._pace_is_known(event, out)
        if name and before:
            self._committed_is_a_fact(name, before)
        self._timers(now)
        return out

    def _trace(self, job: str) -> Trace:
        return self.traces.setdefault(job, Trace())

    # -- stale completions -------------------------------------------------------------

    def _is_stale(self, event: e.Event) -> bool:
        kind = ANSWERS.get(type(event))
        if kind is None:
            return False
        trace, no = self._trace(event.job), event.no  # type: ignore[union-attr]  # ANSWERS have both
        issued = no in self.numbers and no == trace.newest.get(kind)
        return not issued or (type(event), no) in trace.answered

    def _changes_nothing(self, event: e.Event, before: JobView | None, out: list[a.Action]) -> None:
        assert not out, f"a stale completion led to actions: {event} -> {out}"
        assert before == self.core.view(event.job), f"a stale completion changed state: {event}"  # type: ignore[union-attr]

    # -- events ------------------------------------------------------------------------

    def _see_event(  # noqa: C901, PLR0912, PLR0915  # one flat list of what each event means
        self, event: e.Event, life: Life | None
    ) -> None:
        job = getattr(event, "job", None)
        if job is None:
            return
        trace = self._trace(job)
        kind = ANSWERS.get(type(event))
        if kind is not None and trace.newest.get(kind) == event.no:  # type: ignore[union-attr]
            trace.answered.add((type(event), event.no))  # type: ignore[union-attr]
        match event:
            case e.JobAdded(running=True) if not trace.alive:
                trace.alive = trace.ran = True
                trace.asked = max(trace.asked, event.asked)
                self.adopted |= set() if self.closed else {job}
            case e.JobAdded():
                trace.asked = max(trace.asked, event.asked)
            case e.JobRemoved():
                self.traces[job] = Trace()
            case e.ReplicatorUp():
                trace.right, trace.taking = event.generation is not None, False
                trace.generation = event.generation or trace.generation
                self._forget_outstanding(trace)
                view = self.core.view(job)
                if life is Life.RELEASING and view is not None and view.life is not life:
                    trace.ran = False  # the release was carried out before the connection broke
                trace.facts += [event.committed] if event.committed else []
            case e.ReplicatorDown():
                self._forget_outstanding(trace)
            case e.Taken() if event.no == trace.newest.get(a.Take) and trace.taking:
                self._taken(trace, event)
            case e.TakeFailed() if event.no == trace.newest.get(a.Take) and trace.taking:
                trace.taking = False
                trace.newest.pop(a.Take)
            case e.LeaseLost():
                self._lost(trace, life)
            case e.Released() if event.no == trace.newest.get(a.Release):
                trace.right = trace.taking = trace.ran = False
                trace.newest.pop(a.Release)
            case e.ReleaseFailed() if event.no == trace.newest.get(a.Release):
                trace.right, trace.taking = trace.before_release
                trace.newest.pop(a.Release)
            case e.JobExited():
                self._exited(job, trace)
            case e.StartFailed(no=no) | e.Blocked(no=no) if (
                life is Life.STARTING and no == trace.newest[a.Start]
            ):
                trace.alive = trace.fenced = False
            case e.Sealed():
                trace.sealed.append(event.seal)
            case e.Progress() | e.Growing():
                trace.speaks = True
            case e.Uploaded() if trace.upload and event.no == trace.upload.no:
                trace.uploaded.add(event.no)
            case e.UploadFailed() if event.no not in trace.uploaded:
                self._no_upload(trace, event.no)
            case e.CommitFailed() if event.no == trace.newest.get(a.Commit):
                self._no_upload(trace, event.no)
            case e.Committed():
                trace.facts.append(event.seal)
                if trace.upload and trace.upload.no <= event.no:
                    trace.upload = None
            case _:
                pass

    def _no_upload(self, trace: Trace, no: int) -> None:
        if trace.upload is not None and trace.upload.no == no:
            trace.upload = None

    def _forget_outstanding(self, trace: Trace) -> None:
        trace.upload = None
        for kind in (a.Take, a.Release, a.Upload, a.Commit):
            trace.newest.pop(kind, None)

    def _taken(self, trace: Trace, event: e.Taken) -> None:
        gap = trace.generation is not None and event.generation > trace.generation + 1
        if event.ended or gap:
            trace.fenced, trace.ran = trace.alive, trace.ran and trace.alive
        trace.generation = event.generation
        trace.taking = False
        trace.right = trace.taken = not event.ended
        trace.facts += [event.restored] if event.restored else []
        view = self.core.view(event.job)
        if view is not None and view.life is Life.RUNNING:
            trace.alive = trace.ran = True  # somebody else's processes

    def _lost(self, trace: Trace, life: Life | None) -> None:
        trace.right = False
        trace.fenced = trace.alive
        trace.ran = trace.alive  # what has ended is not this machine's to save any more
        if life is not Life.TAKING:
            trace.taking = False  # nobody waits for that take any more
            trace.newest.pop(a.Take, None)
            trace.newest.pop(a.Release, None)

    def _exited(self, job: str, trace: Trace) -> None:
        view = self.core.view(job)
        if view is None or view.life not in (Life.STARTING, Life.RUNNING, Life.STOPPING):
            trace.ran = trace.ran and not trace.fenced
            trace.alive = trace.fenced = trace.taken = False

    # -- actions -----------------------------------------------------------------------

    def _see_action(  # noqa: C901  # likewise
        self, action: a.Action, now: float
    ) -> None:
        if isinstance(action, NUMBERED):
            assert action.no not in self.numbers, f"number used twice: {action}"
            self.numbers.add(action.no)
        if isinstance(action, a.Take | a.Release | a.Start | a.Upload | a.Commit):
            self._trace(action.job).newest[type(action)] = action.no
        match action:
            case a.Ask():
                self._ask(action)
            case a.Withdraw():
                assert action.number <= self._trace(action.job).asked
            case a.Take():
                self._take(action)
            case a.Release():
                self._release(action)
            case a.Start():
                self._start(action)
            case a.Upload():
                self._upload(action, now)
            case a.CancelUpload():
                trace = self._trace(action.job)
                assert trace.upload is not None, "cancels nothing"
                assert trace.upload.no == action.no, "cancels what is not on"
                trace.upload = None
            case a.Pace():
                self._pace(action)
            case a.Commit():
                self._commit(action)
            case _:
                self._see_drain(action, now)

    def _ask(self, ask: a.Ask) -> None:
        trace = self._trace(ask.job)
        old = trace.ask
        if old is not None and ask.number == old.number:
            assert old.deadline is not None, "an ask without deadline was published again"
            assert ask.deadline is not None, "an ask lost its deadline"
            assert ask.deadline < old.deadline, "an ask's deadline moved later"
            assert ask.cause == old.cause
        else:
            assert ask.number == trace.asked + 1, "ask numbers must grow by one"
            trace.asked_after = len(trace.sealed)
        trace.asked, trace.ask = ask.number, ask

    def _take(self, take: a.Take) -> None:
        trace = self._trace(take.job)
        assert not trace.taking, "two takes at a time"
        assert not self.draining or trace.ran, "a machine under notice took a lease"
        trace.taking = True

    def _start(self, start: a.Start) -> None:
        trace = self._trace(start.job)
        assert trace.taken, "started without a take since the last exit"
        assert trace.right, "started without a lease"
        assert not trace.alive, "started twice"
        assert not self.draining, "started on a machine under notice"
        trace.alive = trace.ran = True
        trace.taken = False

    def _release(self, release: a.Release) -> None:
        trace = self._trace(release.job)
        assert not trace.alive, "released before the processes were gone"
        assert trace.right or trace.taking, "released what is not held"
        if self.draining and release.job in self._concerned():
            assert release.job in self.settled, "released before it was settled"
        trace.newest.pop(a.Take, None)
        trace.before_release = (trace.right, trace.taking)
        trace.taking = trace.right = False

    def _upload(self, upload: a.Upload, now: float) -> None:
        trace = self._trace(upload.job)
        assert trace.right, "uploads without a lease"
        assert not trace.fenced, "uploads for an attempt that lost its lease"
        assert trace.upload is None, "two uploads at a time"
        assert upload.deadline is None or upload.deadline > now, "a deadline that is past"
        trace.upload = upload

    def _pace(self, pace: a.Pace) -> None:
        trace = self._trace(pace.job)
        if pace.rate is not None:
            assert pace.rate >= 0
            assert not self.closed, "an upload is held back outside a drain"
            assert trace.speaks, "a cap for a replicator that may not know caps"
        trace.pace = pace.rate

    def _pace_is_known(self, event: e.Event, out: list[a.Action]) -> None:
        """No cap outlives the drain, and who connects is told the cap that holds."""
        if self.closed:
            held = {job: trace.pace for job, trace in self.traces.items() if trace.pace is not None}
            assert not held, f"held back after the drain: {held}"
        if isinstance(event, e.ReplicatorUp) and self._trace(event.job).pace is not None:
            assert any(isinstance(x, a.Pace) and x.job == event.job for x in out)

    def _commit(self, commit: a.Commit) -> None:
        trace = self._trace(commit.job)
        assert trace.right, "commits without a lease"
        assert not trace.fenced, "commits for an attempt that lost its lease"
        assert trace.upload is not None, "commits what is not under way"
        assert (trace.upload.no, trace.upload.seal) == (commit.no, commit.seal)
        assert commit.no in trace.uploaded, "commits what is not uploaded"

    # -- the drain ---------------------------------------------------------------------

    def _concerned(self) -> set[str]:
        return (set(self.drain.jobs) if self.drain else set()) | self.adopted

    def _see_drain(self, action: a.Action, now: float) -> None:
        match action:
            case a.DrainOpened():
                assert not self.draining, "a drain within a drain"
                assert action.drain not in self.numbers
                self.numbers.add(action.drain)
                view = self.core.drain()
                assert view is not None
                assert view.deadline > now, "a drain that is over before it begins"
                self.drain, self.deadline = action, view.deadline
                self.draining, self.closed, self.settled = True, False, {}
                self.adopted.clear()
            case a.DrainMoved():
                assert action.deadline < self.deadline, "a deadline moved later"
                self.deadline = action.deadline
            case a.JobSettled():
                self._settled(action, now)
            case a.DrainClosed():
                missing = set(self.drain.jobs) - set(self.settled) if self.drain else None
                assert not missing, f"closed while {missing} are open"
                assert not self.closed, "closed twice"
                assert action.spare == max(0.0, self.deadline - now)
                self.closed = True
            case a.Undrained():
                assert self.draining, "un-drained without a drain"
                assert self.closed, "un-drained before it was settled"
                self.draining = False
                self.adopted.clear()
            case _:
                pass

    def _settled(self, action: a.JobSettled, now: float) -> None:
        job = action.job
        assert self.drain is not None
        assert action.drain == self.drain.drain
        assert job in self._concerned(), "settled a job that is not of the drain"
        assert job not in self.settled, "settled twice"
        assert now <= self.deadline, "settled after the deadline"
        self.settled[job] = action.settlement
        view = self.core.view(job)
        if action.settlement is Settlement.COMMITTED and view is not None:
            self._is_honest(job, view)

    def _is_honest(self, job: str, view: JobView) -> None:
        trace = self._trace(job)
        if not trace.alive:
            assert not trace.ran or view.sealed == view.committed, "the newest is not committed"
            return
        assert trace.ask is not None, "settled as committed without an ask"
        assert trace.ask.cause in ("notice", "stop")
        answers = [seal.step for seal in trace.sealed[trace.asked_after :]]
        assert answers, "settled as committed without a seal since the ask"
        assert view.committed is not None
        assert view.committed.step >= min(answers), "what is committed is from before the ask"

    def _committed_is_a_fact(self, job: str, before: JobView) -> None:
        view = self.core.view(job)
        if view is not None and view.committed is not None and view.committed != before.committed:
            known = [(fact.path, fact.step) for fact in self._trace(job).facts]
            assert (view.committed.path, view.committed.step) in known, "committed by nobody's word"

    def _timers(self, now: float) -> None:
        wakeup = self.core.next_wakeup()
        assert wakeup is None or wakeup > now, "the timer spins"
        drain = self.core.drain()
        if drain is None:
            assert not self.draining
            return
        assert drain.deadline == self.deadline
        for job, settlement in drain.jobs.items():
            assert settlement == self.settled.get(job), "a settlement changed"
        if drain.phase is Phase.OPEN:
            assert now < drain.deadline, "a deadline passed unnoticed"
            assert wakeup is not None, "nobody will notice the deadline"
            assert wakeup <= drain.deadline, "the timer is set for after the deadline"
