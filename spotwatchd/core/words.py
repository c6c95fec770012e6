"""The words of the product, as types. Seconds are CLOCK_BOOTTIME unless they say otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class MachineAction(str, Enum):
    """What happens to the machine after a notice."""

    TERMINATE = "terminate"
    STOP = "stop"
    HIBERNATE = "hibernate"
    REBOOT = "reboot"


@dataclass(frozen=True)
class Notice:
    """Something that says this machine goes away.

    Attributes:
        source: ``ec2-spot``, ``ec2-event``, ``ec2-asg``, ``operator`` ...
        action: what will happen.
        deadline: when, on the machine's CLOCK_BOOTTIME.
        key: identity of the notice: the same text repeated by the source gives the same key.
        told: the time as the source told it, for people ("" when it told none).
    """

    source: str
    action: MachineAction
    deadline: float
    key: str
    told: str = ""


@dataclass(frozen=True)
class Seal:
    """A complete checkpoint on local disk.

    Attributes:
        path: relative to the job's checkpoint directory.
        step: the training step it holds, >= 0.
        mark: tells two contents of one path apart (inode and mtime); "" when unknown.
    """

    path: str
    step: int
    mark: str = ""


@dataclass(frozen=True)
class JobPolicy:
    """What the core must know of a job.

    Attributes:
        managed: True when the daemon starts and restarts it; False when somebody else did.
        interval: seconds between background saves; None = chosen from measured cost; 0 = never.
        max_crashes: crashes in a row without a new step before the job is given up.
        stop_on_lease_expiry: stop at expiry instead of training on while the store is away.
        gpus, sees, priority, since, owner: see resources.Wish.
    """

    managed: bool = True
    interval: float | None = None
    max_crashes: int = 3
    stop_on_lease_expiry: bool = False
    gpus: int | None = None
    sees: tuple[int, ...] | None = None
    priority: int = 0
    since: str = ""
    owner: str = ""


class Life(str, Enum):
    """Where a job is in its life on this machine."""

    WAITING = "waiting"  # wants to run; held back by back-off, a notice, or no replicator yet
    TAKING = "taking"  # lease asked for, then restore
    STARTING = "starting"  # launcher asked
    RUNNING = "running"
    STOPPING = "stopping"  # told to stop: lease lost, or a person said so
    RELEASING = "releasing"  # its processes are gone, the lease is given back
    DONE = "done"  # see Outcome


class Saving(str, Enum):
    """Where a job is in the way of one checkpoint from memory to the store."""

    IDLE = "idle"
    ASKED = "asked"  # waits for the job's seal
    UPLOADING = "uploading"
    COMMITTING = "committing"


class Outcome(str, Enum):
    """How a job's last attempt ended."""

    FINISHED = "finished"
    PREEMPTED = "preempted"
    CRASHED = "crashed"
    STOPPED = "stopped"


class Settlement(str, Enum):
    """How a drain ended for one job."""

    COMMITTED = "committed"
    ABANDONED = "abandoned"
