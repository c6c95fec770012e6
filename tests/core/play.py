"""A script of events for one core: spares the tests typing numbers."""

from __future__ import annotations

from typing import TypeVar

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.machine import Core, CoreSettings, JobView
from spotwatchd.core.words import JobPolicy, MachineAction, Notice, Seal

A = TypeVar("A", bound=a.Action)
START = 1000.0


def seal(step: int, mark: str = "1-1") -> Seal:
    """A sealed checkpoint of ``step``."""
    return Seal(f"step-{step:012d}", step, mark)


def notice(at: float, key: str = "k", source: str = "ec2-spot") -> Notice:
    """A notice with its deadline at ``at``."""
    return Notice(source, MachineAction.TERMINATE, at, key)


class Play:
    """A core, its time, and every action so far."""

    def __init__(self, **changed: float) -> None:
        self.core = Core(settings=CoreSettings(**changed), first_number=100)  # type: ignore[arg-type]
        self.now = START
        self.actions: list[a.Action] = []

    def send(self, event: e.Event, at: float | None = None) -> list[a.Action]:
        """Deliver an event, ``at`` seconds after the start of the play."""
        if at is not None:
            self.now = max(self.now, START + at)
        out = self.core.handle(event, self.now)
        self.actions += out
        return out

    def until(self, at: float) -> list[a.Action]:
        """Let the timer run until ``at`` seconds after the start; what it led to."""
        out: list[a.Action] = []
        while (wakeup := self.core.next_wakeup()) is not None and wakeup <= START + at:
            self.now = max(self.now, wakeup)
            out += self.send(e.Woken())
        self.now = START + at
        return out

    def last(self, kind: type[A], job: str = "j") -> A:
        """The newest action of a kind for a job."""
        found = [x for x in self.actions if isinstance(x, kind) and getattr(x, "job", job) == job]
        assert found, f"no {kind.__name__} yet"
        return found[-1]

    def view(self, job: str = "j") -> JobView:
        """The job's picture."""
        view = self.core.view(job)
        assert view is not None
        return view

    # -- stretches that go well ----------------------------------------------------------

    def running(
        self,
        job: str = "j",
        *,
        policy: JobPolicy | None = None,
        restored: Seal | None = None,
        joined: bool = True,
    ) -> Play:
        """Bring a job to RUNNING."""
        self.send(e.JobAdded(job, policy or JobPolicy()))
        self.send(e.ReplicatorUp(job, None, None, None))
        self.taken(job, restored=restored)
        if policy is None or policy.managed:
            self.started(job)
        if joined:
            self.send(e.ProcessJoined(job, "1"))
        return self

    def taken(
        self, job: str = "j", *, restored: Seal | None = None, crashes: int = 0, ended: str = ""
    ) -> list[a.Action]:
        """Answer the newest Take."""
        take = self.last(a.Take, job)
        attempts = sum(isinstance(x, a.Take) and x.job == job for x in self.actions)
        taken = e.Taken(job, take.no, attempts, restored, attempts, crashes, ended)
        return self.send(taken)

    def started(self, job: str = "j") -> list[a.Action]:
        """Answer the newest Start."""
        return self.send(e.Started(job, self.last(a.Start, job).no))

    def sealed(self, step: int, job: str = "j", *, ask: int | None = None) -> list[a.Action]:
        """The job seals; by default it answers its newest ask."""
        number = self.view(job).asked if ask is None else ask
        return self.send(e.Sealed(job, seal(step), number, 0.5))

    def uploaded(self, job: str = "j") -> list[a.Action]:
        """Answer the newest Upload."""
        return self.send(e.Uploaded(job, self.last(a.Upload, job).no, 100, 1.0))

    def committed(self, job: str = "j") -> list[a.Action]:
        """Answer the newest Commit."""
        commit = self.last(a.Commit, job)
        return self.send(e.Committed(job, commit.no, commit.seal, "id"))

    def saved(self, step: int, job: str = "j", *, ask: int | None = None) -> list[a.Action]:
        """A whole checkpoint, from seal to commit."""
        out = self.sealed(step, job, ask=ask)
        return out + self.uploaded(job) + self.committed(job)

    def exited(
        self, status: int | None, job: str = "j", *, finished: bool = False
    ) -> list[a.Action]:
        """The processes of the newest attempt are gone."""
        return self.send(e.JobExited(job, self.view(job).attempt, status, finished))

    def released(self, job: str = "j") -> list[a.Action]:
        """Answer the newest Release."""
        return self.send(e.Released(job, self.last(a.Release, job).no))

    def noticed(self, left: float, key: str = "k", source: str = "ec2-spot") -> list[a.Action]:
        """A notice with ``left`` seconds."""
        return self.send(e.NoticeSeen(notice(self.now + left, key, source)))


def of(kind: type[A], out: list[a.Action]) -> list[A]:
    """The actions of one kind."""
    return [action for action in out if isinstance(action, kind)]


def words(out: list[a.Action]) -> list[str]:
    """The reports' words."""
    return [report.word for report in of(a.Report, out)]
