"""Everything the core can be told. One door: ``Core.handle(event, now)``.

``no`` repeats the number of the action that the event completes. The core drops a
completion whose number is not the one it waits for, except that a success which
arrives late still counts as the fact it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from spotwatchd.core.words import JobPolicy, Notice, Seal


@dataclass(frozen=True)
class NoticeSeen:
    """A source shows a notice (repeated at every poll while it is visible)."""

    notice: Notice


@dataclass(frozen=True)
class NoticeGone:
    """A source that showed a notice answers, and shows none any more."""

    source: str


@dataclass(frozen=True)
class HintSeen:
    """A rebalance recommendation: save early, keep training."""

    key: str


@dataclass(frozen=True)
class Woken:
    """The timer for ``next_wakeup()`` fired."""


@dataclass(frozen=True)
class ResourcesSeen:
    """What this machine has for jobs (resources.Resources); said again when it changed."""

    gpus: tuple[int, ...] | None
    cpu_jobs: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class JobAdded:
    """A job is registered, or found again in the journal after a restart of the daemon.

    Attributes:
        running: its processes are alive (adopted), so it is neither taken nor started.
        attempt: number of the newest attempt so far (0: never run on this machine).
        asked: newest ask number on its board.
        ended: it already reached Life.DONE before the restart.
        told_to_leave: the newest ask on its board said so (a notice or a stop), so an exit
            with status 0 that happened while no daemon looked is not a finished run.
        gpus: that its running processes were given, None when they did not ask.
    """

    job: str
    policy: JobPolicy
    running: bool = False
    attempt: int = 0
    asked: int = 0
    ended: bool = False
    told_to_leave: bool = False
    gpus: tuple[int, ...] | None = None


@dataclass(frozen=True)
class JobRemoved:
    """Forget the job (its processes are gone and its lease released, or never taken)."""

    job: str


@dataclass(frozen=True)
class ReplicatorUp:
    """The job's replicator is connected.

    Attributes:
        generation: of the lease it holds, or None.
        committed: the newest committed checkpoint it knows, or None.
        sealed: the newest sealed checkpoint on local disk, or None.
    """

    job: str
    generation: int | None
    committed: Seal | None
    sealed: Seal | None


@dataclass(frozen=True)
class ReplicatorDown:
    """The connection of the job's replicator broke; what it was doing is unknown."""

    job: str


@dataclass(frozen=True)
class Taken:
    """The lease is held and the newest good checkpoint restored (None: there is none)."""

    job: str
    no: int
    generation: int
    restored: Seal | None
    attempts: int = 0  # attempts so far on all machines, from head
    crashes: int = 0  # crashes in a row without a new step, from head
    ended: str = ""  # "finished", "crashed", "stopped": head says so, nothing is to be run


@dataclass(frozen=True)
class TakeFailed:
    """The lease could not be taken or the restore failed; worth another try later."""

    job: str
    no: int
    reason: str


@dataclass(frozen=True)
class TakeWaits:
    """Another machine has the lease; the take goes on."""

    job: str
    no: int


@dataclass(frozen=True)
class Watched:
    """How a job that waits for room is elsewhere.

    Attributes:
        elsewhere: another machine has the lease, and is alive as far as can be seen.
        ended: "finished", "crashed", "stopped": head says so; "" while it is to be run.
    """

    job: str
    no: int
    elsewhere: bool
    ended: str = ""


@dataclass(frozen=True)
class LeaseLost:
    """Another owner has the job, or (stop_on_lease_expiry) the lease expired."""

    job: str
    reason: str


@dataclass(frozen=True)
class Released:
    """The lease is given back; head says how the attempt ended."""

    job: str
    no: int


@dataclass(frozen=True)
class ReleaseFailed:
    """The store did not take the release; the lease will run out by itself."""

    job: str
    no: int
    reason: str


@dataclass(frozen=True)
class Started:
    """The job's processes exist."""

    job: str
    no: int


@dataclass(frozen=True)
class StartFailed:
    """Nothing was started (command not found, directory missing ...)."""

    job: str
    no: int
    reason: str


@dataclass(frozen=True)
class Blocked:
    """Nothing was started: this machine lacks what the job needs. No crash.

    Attributes:
        what: is missing, e.g. ``/data/imagenet is not on this machine``.
        remedy: what a person does about it.
    """

    job: str
    no: int
    what: str
    remedy: str


@dataclass(frozen=True)
class JobExited:
    """All processes of the attempt are gone.

    Attributes:
        status: exit status, negative for a signal, None when nobody recorded it.
        finished: the job said ``finish()``.
    """

    job: str
    attempt: int
    status: int | None
    finished: bool


@dataclass(frozen=True)
class ProcessJoined:
    """A process registered for the job."""

    job: str
    process: str


@dataclass(frozen=True)
class ProcessLeft:
    """A registered process is gone."""

    job: str
    process: str


@dataclass(frozen=True)
class Sealed:
    """The job (or a rescan) reports a sealed checkpoint.

    Attributes:
        ask: number of the ask it answers, 0 for a save of the job's own accord.
        flush_seconds: from the ask (or the start of the save) to the seal, if measured.
    """

    job: str
    seal: Seal
    ask: int = 0
    flush_seconds: float | None = None


@dataclass(frozen=True)
class SaveRequested:
    """A person or program wants a checkpoint now (``spotwatch checkpoint``)."""

    job: str


@dataclass(frozen=True)
class StopRequested:
    """A person wants the job to end here, and to save before that unless ``save`` is false."""

    job: str
    save: bool = True


@dataclass(frozen=True)
class Uploaded:
    """All bytes of the checkpoint are acknowledged and verified by the store.

    Attributes:
        sent: bytes really sent, None when nobody counted: less than ``size`` where files
            were unchanged or sent early.
    """

    job: str
    no: int
    size: int
    seconds: float
    sent: int | None = None


@dataclass(frozen=True)
class Progress:
    """An upload is under way: ``sent`` of ``size`` bytes are acknowledged by the store."""

    job: str
    no: int
    sent: int
    size: int


@dataclass(frozen=True)
class Growing:
    """A checkpoint is being written, and sent while it grows.

    Attributes:
        sent: bytes of it in the store.
        size: bytes of it that the training has written so far.
    """

    job: str
    sent: int
    size: int


@dataclass(frozen=True)
class UploadFailed:
    """``final``: another try cannot help (the local files are gone or changed)."""

    job: str
    no: int
    reason: str
    final: bool = False


@dataclass(frozen=True)
class Committed:
    """Head lists the checkpoint. The only event that makes anything durable."""

    job: str
    no: int
    seal: Seal
    checkpoint_id: str


@dataclass(frozen=True)
class CommitFailed:
    """Head does not list the checkpoint, or nobody knows whether it does."""

    job: str
    no: int
    reason: str
    final: bool = False


Event = (
    NoticeSeen
    | NoticeGone
    | HintSeen
    | Woken
    | ResourcesSeen
    | JobAdded
    | JobRemoved
    | ReplicatorUp
    | ReplicatorDown
    | Taken
    | TakeFailed
    | TakeWaits
    | Watched
    | LeaseLost
    | Released
    | ReleaseFailed
    | Started
    | StartFailed
    | Blocked
    | JobExited
    | ProcessJoined
    | ProcessLeft
    | Sealed
    | SaveRequested
    | StopRequested
    | Uploaded
    | Progress
    | Growing
    | UploadFailed
    | Committed
    | CommitFailed
)
