"""The real core in the simulated world: its history first, then the notice to the deadline."""

from __future__ import annotations

import math
import random

from spotwatchd.core import actions as a
from spotwatchd.core import events as e
from spotwatchd.core.machine import Core, CoreSettings
from spotwatchd.core.words import JobPolicy, MachineAction, Notice, Seal
from tests.core.simulation.cases import Case, Trained
from tests.core.simulation.stream import Replica, Stream

NOTICE = 100_000.0  # on the core's clock
SAVES = 5  # measured before the notice
_STEPS = {"old": 20, "new": 30}
_LOOKS = 60  # reports of progress at most, in a window


def _off(rng: random.Random, spread: float) -> float:
    return math.exp(rng.gauss(0, spread)) if spread else 1.0


class Past:
    """What the core measured before: true values, each as wrong as the noise makes it."""

    def __init__(self, case: Case) -> None:
        self._case, self._rng = case, random.Random(f"past-{case.seed}")
        self._link = self._off(case.noise.bias)
        self._bias = {
            job.name: (self._off(case.noise.bias), self._off(case.noise.size)) for job in case.jobs
        }

    def _off(self, spread: float) -> float:
        return _off(self._rng, spread)

    def flush(self, job: Trained) -> float:
        """One measured flush."""
        return job.flush * self._bias[job.name][0] * self._off(self._case.noise.each)

    def size(self, job: Trained) -> int:
        """One measured size."""
        noise = self._off(self._case.noise.size)
        return round(job.size * self._bias[job.name][1] * noise)

    def rate(self) -> float:
        """One measured rate."""
        return self._case.rate * self._link * self._off(self._case.noise.each)


class Driven:
    """A core, its past, and the world from the notice on."""

    def __init__(self, case: Case) -> None:
        self.case, self.stream = case, Stream(case)
        self.core = Core(settings=CoreSettings(), first_number=1)
        self.actions: list[tuple[float, a.Action]] = []
        self._numbers: dict[str, tuple[int, str]] = {}
        self._begun: dict[str, tuple[float, float]] = {}
        self._live_through(Past(case))

    # -- before the notice -----------------------------------------------------------------

    def _tell(self, event: e.Event, at: float) -> list[a.Action]:
        out = self.core.handle(event, at)
        self.actions += [(at - NOTICE, action) for action in out]
        return out

    def _live_through(self, past: Past) -> None:
        now = 1.0
        for job in self.case.jobs:
            self._begin(job, now)
        for number in range(SAVES):
            for job in self.case.jobs:
                now += 1.0
                self._save(job, 1 + number, past, now)
                now += self.case.commit
        if len(self.case.jobs) > 1:
            self._save_together(past, now + 1.0)
        later = sorted(
            [(NOTICE - job.done - 1, "done", job) for job in self.case.jobs]
            + [(NOTICE - (j.done - j.sealed), "old", j) for j in self.case.jobs if j.sealed],
            key=lambda entry: entry[0],
        )
        for at, what, job in later:
            if what == "done":
                self._save_at(job, 10, past, at)
            else:
                self._upload_old(job, at)

    def _begin(self, job: Trained, now: float) -> None:
        self._tell(e.JobAdded(job.name, JobPolicy(interval=0.0)), now)
        out = self._tell(e.ReplicatorUp(job.name, None, None, None), now)
        (take,) = (x for x in out if isinstance(x, a.Take))
        out = self._tell(e.Taken(job.name, take.no, 1, None), now)
        (start,) = (x for x in out if isinstance(x, a.Start))
        self._tell(e.Started(job.name, start.no), now)
        self._tell(e.ProcessJoined(job.name, "1"), now)

    def _seal(self, job: Trained, step: int, flush: float | None, now: float) -> a.Upload:
        out = self._tell(e.Sealed(job.name, Seal(f"step-{step}", step), 0, flush), now)
        (upload,) = (x for x in out if isinstance(x, a.Upload))
        return upload

    def _finish(self, job: Trained, upload: a.Upload, past: Past, now: float) -> None:
        size, rate = past.size(job), past.rate()
        self._tell(e.Progress(job.name, upload.no, size // 2, size), now)
        self._tell(e.Uploaded(job.name, upload.no, size, size / rate, size), now)
        done = e.Committed(job.name, upload.no, upload.seal, "id")
        self._tell(done, now + self.case.commit)

    def _save(self, job: Trained, step: int, past: Past, now: float) -> None:
        if job.streams:
            self._tell(e.Growing(job.name, 0, 1000), now)
        self._finish(job, self._seal(job, step, past.flush(job), now), past, now)

    def _save_at(self, job: Trained, step: int, past: Past, now: float) -> None:
        """The newest committed one: it holds the state of ``now``, nothing else is said of it."""
        self._finish(job, self._seal(job, step, None, now + 0.5), past, now + 0.5)

    def _save_together(self, past: Past, now: float) -> None:
        """Two uploads share the link for a while, as measured by their progress."""
        pair = self.case.jobs[:2]
        uploads = [(job, self._seal(job, 9, None, now)) for job in pair]
        sent, size = 0.0, 10**15
        for _ in range(14):
            for job, upload in uploads:
                self._tell(e.Progress(job.name, upload.no, round(sent), size), now)
            now += 1.0
            sent += past.rate() / len(pair)
        for job, upload in uploads:
            self._finish(job, upload, past, now)
            now += self.case.commit

    def _upload_old(self, job: Trained, at: float) -> None:
        upload = self._seal(job, _STEPS["old"], None, at)
        self._numbers[job.name] = (upload.no, "old")
        replica = self.stream.replicas[job.name]
        replica.upload = "old"
        begun = -(1 - job.left) * job.size / self.case.rate
        self._begun[job.name] = (begun, job.size)
        self._report(replica, NOTICE - 1e-6)

    # -- from the notice on ----------------------------------------------------------------

    def run(self) -> float:
        """Seconds of work that are in the store at the deadline."""
        deadline = NOTICE + self.case.window
        notice = Notice("ec2-spot", MachineAction.TERMINATE, deadline, "k")
        self._send(e.NoticeSeen(notice))
        period = max(0.5, self.case.window / _LOOKS)
        tick = period
        while self.stream.now < self.case.window:
            self._happen()
            wakeup = self.core.next_wakeup()
            timer = math.inf if wakeup is None else wakeup - NOTICE
            if timer <= self.stream.now:
                self._send(e.Woken())
            if tick <= self.stream.now:
                tick += period
                self._report_all()
            self.stream.share()
            soon = [self.stream.change(), tick, max(timer, self.stream.now), self.case.window]
            self.stream.advance(min(soon))
        self.stream.committed_now()
        return self.stream.held()

    def _happen(self) -> None:
        for replica, what in self.stream.committed_now():
            no = self._numbers[replica.job.name][0]
            seal = Seal(f"step-{_STEPS[what]}", _STEPS[what])
            self._send(e.Committed(replica.job.name, no, seal, "id"))
        for replica, _ in self.stream.uploaded_now():
            job = replica.job
            begun, left = self._begun.get(job.name, (-1.0, job.size))
            sent, seconds = round(left), self.stream.now - begun
            no, size = self._numbers[job.name][0], round(job.size)
            self._send(e.Uploaded(job.name, no, size, seconds, sent))
        for replica in self.stream.sealed_now():
            job = replica.job
            asked = getattr(self.core.view(job.name), "asked", 0)
            seal = Seal(f"step-{_STEPS['new']}", _STEPS["new"])
            if job.streams:
                self._grow(replica)
            self._send(e.Sealed(job.name, seal, asked, job.flush))

    def _send(self, event: e.Event) -> None:
        for action in self._tell(event, NOTICE + self.stream.now):
            self._obey(action)

    def _obey(self, action: a.Action) -> None:
        replica = self.stream.replicas.get(getattr(action, "job", ""))
        if replica is None:
            return
        match action:
            case a.Upload():
                what = "new" if action.seal.step == _STEPS["new"] else "old"
                replica.upload = what
                self._begun[action.job] = (self.stream.now, replica.left[what])
                self._numbers[action.job] = (action.no, what)
            case a.CancelUpload():
                replica.upload = ""
            case a.Commit():
                self.stream.commit(replica, self._numbers[action.job][1])
            case a.Pace():
                replica.cap = math.inf if action.rate is None else action.rate
            case _:
                pass

    def _report_all(self) -> None:
        for replica in self.stream.replicas.values():
            if replica.upload:
                self._report(replica, NOTICE + self.stream.now)
            if replica.job.streams and not replica.sealed:
                self._grow(replica)

    def _report(self, replica: Replica, at: float) -> None:
        size, what = round(replica.job.size), replica.upload
        sent = size - round(replica.left[what])
        event = e.Progress(replica.job.name, self._numbers[replica.job.name][0], sent, size)
        if at < NOTICE:
            self._tell(event, at)
        else:
            self._send(event)

    def _grow(self, replica: Replica) -> None:
        written = round(replica.written(self.stream.now))
        self._send(e.Growing(replica.job.name, round(replica.early()), written))


def run(case: Case) -> float:
    """Seconds of work that the real core gets into the store."""
    return Driven(case).run()
