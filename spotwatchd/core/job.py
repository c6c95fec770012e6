"""What the core knows of one job: plain state, no decisions."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from spotwatchd.core.resources import Seat
from spotwatchd.core.table import LIFE, SAVING, follow
from spotwatchd.core.traffic import Meter
from spotwatchd.core.words import JobPolicy, Life, Outcome, Saving, Seal

NOW = -math.inf  # as a time: it is due already
ALIVE = (Life.STARTING, Life.RUNNING, Life.STOPPING)
SEATED = (Life.TAKING, *ALIVE)
FINAL = (Outcome.FINISHED, Outcome.STOPPED)
REMEMBERED = 16  # seals, to recognise one that is reported twice


def same(one: Seal, other: Seal) -> bool:
    """Whether two seals are the same checkpoint; an unknown mark does not tell them apart."""
    marks_agree = one.mark == other.mark or not one.mark or not other.mark
    return one.path == other.path and one.step == other.step and marks_agree


@dataclass(frozen=True)
class Known:
    """A seal and its place in the order in which this core learned of them.

    Order, not step, says which of two is newer: a job may go back on purpose.

    Attributes:
        at: when the state it holds was that of the training, as far as is known.
    """

    seal: Seal
    order: int
    at: float = 0.0


@dataclass
class OpenAsk:
    """The one ask that is open.

    Attributes:
        after: newest order when it was published; a higher one was sealed later.
        answered: order of the seal that answers it, or None.
        saved_at: when that seal was committed.
    """

    number: int
    cause: str
    deadline: float | None
    at: float
    after: int
    answered: int | None = None
    saved_at: float | None = None

    @property
    def leave(self) -> bool:
        """The process is to end after saving."""
        return self.cause in ("notice", "stop")


@dataclass
class Flight:
    """A seal on its way to the store.

    Attributes:
        no: of the action that is outstanding, None while there is none.
        since: when that action was issued.
        tries: failures so far.
        retry_at: earliest time of the next try.
        early: bytes that were in the store before the seal.
        sent, size: bytes acknowledged and bytes in all, None before the first report.
        alone: no other upload was under way since ``since``.
        uploaded_at: when its commit began.
        resting: it was stopped for now, because the link has something better to do.
    """

    known: Known
    cause: str
    no: int | None = None
    since: float = 0.0
    tries: int = 0
    retry_at: float = NOW
    early: int = 0
    sent: int | None = None
    size: int | None = None
    alone: bool = True
    uploaded_at: float = 0.0
    resting: bool = False


@dataclass
class Way:
    """Checkpoints of a job, from memory to the store.

    Attributes:
        flight, waiting: at most one on its way, at most one (the newest) behind it.
        sealed, committed: the newest of each.
        failed: why ``sealed`` can never be committed, "" when nothing speaks against it.
        answered_number: newest ask that a seal answered.
        saved_at: when the newest seal of this attempt was reported.
        costs, seconds: of the latest saves (flush) and uploads.
        sizes: bytes that the latest checkpoints had to send.
        rates: bytes per second of the latest uploads that were alone.
        commits: seconds of the latest commits, from the last byte to the word of the store.
    """

    ask: OpenAsk | None = None
    flight: Flight | None = None
    waiting: Flight | None = None
    sealed: Known | None = None
    committed: Known | None = None
    failed: str = ""
    order: int = 0
    answered_number: int = 0
    saved_at: float | None = None
    known: deque[Known] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    costs: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    sizes: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    commits: deque[float] = field(default_factory=lambda: deque(maxlen=5))

    def learn(self, seal: Seal, at: float) -> Known:
        """Note a seal that is newer than all before; it holds the state of time ``at``."""
        self.order += 1
        self.sealed = Known(seal, self.order, at)
        self.known.append(self.sealed)
        self.failed = ""
        return self.sealed

    def find(self, seal: Seal) -> Known | None:
        """The note of this seal, or None when it was never (or too long ago) reported."""
        return next((known for known in reversed(self.known) if same(known.seal, seal)), None)

    def restart_from(self, restored: Seal | None, at: float) -> None:
        """Forget what was before: the store decided what the job goes on from."""
        self.known.clear()
        self.sealed = self.committed = self.waiting = self.flight = None
        self.failed = ""
        self.saved_at = None
        if restored is not None:
            self.committed = self.learn(restored, at)

    @property
    def uncommitted(self) -> bool:
        """A sealed checkpoint is not in the store yet, and may get there."""
        return self.flight is not None

    @property
    def still_asked(self) -> bool:
        """An ask waits for its seal."""
        return self.ask is not None and self.ask.answered is None

    @property
    def answer_committed(self) -> bool:
        """The open ask to leave is answered by what the store has."""
        ask, committed = self.ask, self.committed
        if ask is None or ask.answered is None or committed is None:
            return False
        return ask.leave and committed.order >= ask.answered


@dataclass
class Hold:
    """The job's lease, as far as its replicator told.

    Attributes:
        linked: the replicator is connected.
        generation: of the lease that is held, or None.
        maybe: it is held, or a take is on its way.
        take, release: numbers of the outstanding actions, or None.
        watch: number of the Watch that goes on, or None.
        take_at, release_at: earliest time of the next try.
        floor: number of the newest take that succeeded: older completions are of an older life.
        lost: why the processes that run have no right to the job, "" when they have.
    """

    linked: bool = False
    generation: int | None = None
    last_generation: int | None = None
    maybe: bool = False
    take: int | None = None
    release: int | None = None
    watch: int | None = None
    take_tries: int = 0
    release_tries: int = 0
    take_at: float = NOW
    release_at: float = NOW
    floor: int = 0
    lost: str = ""

    def drop(self) -> None:
        """No lease, and none on its way."""
        self.generation = None
        self.maybe = False
        self.take = self.release = self.watch = None


@dataclass
class Job:
    """One job.

    Attributes:
        start: number of the outstanding Start.
        ran: an attempt ran since the lease was taken (so its end is worth recording).
        present: somebody's processes want it to run (always true of a managed job).
        joined: a process registered in this attempt: it answers asks by number.
        told: number of the newest ask to leave in this attempt, 0 for none.
        stop_since: when a person stopped it.
        unsaved: that person wants no save.
        base: newest committed step when the attempt began (-1: none).
        crashes: in a row without a new committed step.
        fruitless: ends of attempts without a new committed step, whatever their reason.
        blocked, remedy: what this machine lacks, "" when nothing is known to be missing.
        blocked_tries: starts in a row that found the same thing missing.
        unstarted: starts in a row that found anything missing.
        linger_until: files of a program without the client may still be found until then.
        meter: its uploads, measured.
        pace: the cap on them, None for none.
        paced: there ever was one, so a replicator that connects must be told.
        seat: what it holds of the machine, None while it holds nothing.
        trying: it may go for its lease without one.
        added_at: when it was registered or found.
        elsewhere: another machine had its lease when it was last looked at.
    """

    name: str
    policy: JobPolicy
    life: Life = Life.WAITING
    saving: Saving = Saving.IDLE
    way: Way = field(default_factory=Way)
    hold: Hold = field(default_factory=Hold)
    attempt: int = 0
    asked: int = 0
    start: int | None = None
    ran: bool = False
    present: bool = True
    joined: bool = False
    told: int = 0
    outcome: Outcome | None = None
    cause: str = ""
    stop_since: float | None = None
    unsaved: bool = False
    base: int = -1
    crashes: int = 0
    fruitless: int = 0
    running_since: float = 0.0
    exited_at: float = 0.0
    linger_until: float = NOW
    meter: Meter = field(default_factory=Meter)
    pace: float | None = None
    paced: bool = False
    blocked: str = ""
    remedy: str = ""
    blocked_tries: int = 0
    unstarted: int = 0
    seat: Seat | None = None
    trying: bool = False
    elsewhere: bool = False
    added_at: float = NOW

    @property
    def alive(self) -> bool:
        """Its processes exist, or are about to."""
        return self.life in ALIVE

    @property
    def final(self) -> bool:
        """Nobody is to run it again after this end."""
        if self.stop_since is not None or self.outcome in FINAL:
            return True
        return self.outcome is Outcome.CRASHED and self.crashes >= self.policy.max_crashes

    @property
    def must_record(self) -> bool:
        """Something of the ended attempt can only be written by the owner of the lease."""
        return self.way.uncommitted or (self.final and self.ran)

    def live(self, cause: str) -> None:
        """Follow an arrow of the life table."""
        self.life = follow(LIFE, self.life, cause)
        self.trying = False
        if self.life not in SEATED:
            self.seat = None

    def save(self, cause: str) -> None:
        """Follow an arrow of the saving table."""
        self.saving = follow(SAVING, self.saving, cause)
