"""Everything the core can want done. The engine carries it out and answers with events.

``no`` is unique over the life of the daemon (and, because the engine seeds it from the
boot clock, over its restarts); the completing event repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass

from spotwatchd.core.words import MachineAction, Notice, Outcome, Seal, Settlement


@dataclass(frozen=True)
class Ask:
    """Publish ask ``number`` on the board, the stream and by signal.

    The same number again moves the deadline earlier. ``cause`` is one of
    "notice", "hint", "periodic", "request", "stop" (see wire/board.py).
    """

    job: str
    number: int
    cause: str
    deadline: float | None
    action: MachineAction | None


@dataclass(frozen=True)
class Withdraw:
    """Every ask up to ``number`` is answered or void."""

    job: str
    number: int


@dataclass(frozen=True)
class Take:
    """Take the lease, restore the newest good checkpoint. Answer: Taken, TakeFailed."""

    job: str
    no: int


@dataclass(frozen=True)
class Watch:
    """Look who has the lease of a job that there is no room for, until the next command.

    Answers: Watched, at once and at each change.
    """

    job: str
    no: int


@dataclass(frozen=True)
class Release:
    """Write into head how the attempt ended and give the lease back.

    Answer: Released, ReleaseFailed. ``crashes`` is the new count for head. FINISHED,
    CRASHED and STOPPED are final: head says so and nobody runs the job again. A crash
    that may be tried again is given back as PREEMPTED with ``crashes`` > 0.
    """

    job: str
    no: int
    outcome: Outcome
    crashes: int


@dataclass(frozen=True)
class Start:
    """Check what the job needs, then start it. Answer: Started, StartFailed, Blocked.

    After Started comes JobExited.

    ``cause`` tells why it runs: "first", "interruption", "crash", "restart"; ``gpus`` are
    the indices of those that it has for itself, None when it did not ask.
    """

    job: str
    no: int
    attempt: int
    resume: Seal | None
    cause: str
    gpus: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Stop:
    """End the job's processes: SIGTERM, SIGKILL after ``grace`` seconds. Answer: JobExited."""

    job: str
    grace: float
    reason: str


@dataclass(frozen=True)
class Upload:
    """Bring the bytes to the store. Answer: Uploaded, UploadFailed."""

    job: str
    no: int
    seal: Seal
    cause: str
    deadline: float | None


@dataclass(frozen=True)
class CancelUpload:
    """Stop upload ``no``: something more valuable needs the link. No answer is awaited."""

    job: str
    no: int


@dataclass(frozen=True)
class Pace:
    """Cap the upload rate of the job's replicator from now on. No answer is awaited.

    ``rate`` is in bytes per second; None lifts the cap, 0 sends no new parts for now.
    """

    job: str
    rate: float | None


@dataclass(frozen=True)
class Choice:
    """One checkpoint in a decision, with the figures that led to it.

    Attributes:
        step: None while it is not sealed.
        size: bytes still to be sent.
        ready: seconds until it is sealed, 0 when it is.
        seconds: that its bytes take alone at the rate reckoned with, None when it stalls.
        value: seconds of work that it saves.
        fits: it is expected to be committed in time.
    """

    step: int | None
    size: int
    ready: float
    seconds: float | None
    value: float
    fits: bool


@dataclass(frozen=True)
class Decided:
    """How the job's checkpoints stand in the plan of this drain (for the receipt).

    Attributes:
        place: among the ``jobs`` that are expected to get something through; 0: it is not.
        rate: of the link, bytes per second.
        left: seconds for bytes.
        choices: the job's checkpoints, the preferred first.
    """

    job: str
    place: int
    jobs: int
    rate: float
    left: float
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Commit:
    """Write the manifest and list it in head. Answer: Committed, CommitFailed.

    ``no`` is the number of the Upload that it completes.
    """

    job: str
    no: int
    seal: Seal
    cause: str
    deadline: float | None


@dataclass(frozen=True)
class DrainOpened:
    """An interruption begins (journal it before anything else happens)."""

    drain: int
    notice: Notice
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class DrainMoved:
    """The deadline of the open drain became earlier."""

    drain: int
    deadline: float


@dataclass(frozen=True)
class JobSettled:
    """The drain is over for one job, exactly once.

    ``step`` is the newest committed step (None: none ever).
    """

    drain: int
    job: str
    settlement: Settlement
    reason: str
    step: int | None


@dataclass(frozen=True)
class DrainClosed:
    """Every job is settled; ``spare`` seconds were left (negative never: the timer ends it)."""

    drain: int
    spare: float


@dataclass(frozen=True)
class Undrained:
    """The machine outlived its notice: jobs may be taken again."""

    drain: int
    reason: str


@dataclass(frozen=True)
class Report:
    """A line for the log and the event stream: ``word`` is one of the product's words."""

    word: str
    job: str | None
    fields: tuple[tuple[str, object], ...] = ()


Action = (
    Ask
    | Withdraw
    | Take
    | Watch
    | Release
    | Start
    | Stop
    | Upload
    | CancelUpload
    | Pace
    | Decided
    | Commit
    | DrainOpened
    | DrainMoved
    | JobSettled
    | DrainClosed
    | Undrained
    | Report
)
