"""Every setting, once. The parser, the environment's names and the docs are made from this."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from spotwatchd.config.kinds import (
    ABSOLUTE,
    ENDPOINT,
    MACHINE,
    STORE,
    Kind,
    Mode,
    Names,
    Number,
    Size,
    Switch,
    Whole,
    WordOr,
    one_of,
)
from spotwatchd.wire.paths import SOCKET_NAME, SYSTEM_RUNTIME, SYSTEM_STATE, private_runtime


@dataclass(frozen=True)
class Setting:
    """What is known of a setting besides its name and default.

    Attributes:
        doc: sentences for a person who edits the file.
        kind: what is accepted.
        unit: of a number, "" when it counts things or is none.
        example: default as the docs show it, where it depends on the machine.
    """

    doc: str
    kind: Kind
    unit: str = ""
    example: str = ""


def _setting(kind: Kind, default: Any, doc: str, *, unit: str = "", example: str = "") -> Any:
    metadata = {"setting": Setting(doc, kind, unit, example)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _seconds(low: float, high: float, default: float, doc: str) -> Any:
    return _setting(Number(low, high, "seconds"), default, doc, unit="seconds")


def _is_root() -> bool:
    return os.getuid() == 0


def _runtime() -> Path:
    return SYSTEM_RUNTIME if _is_root() else private_runtime()


def user_state() -> Path:
    """Where a user's programs keep what outlives a reboot (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(base) / "spotwatchd"


def _state() -> Path:
    return SYSTEM_STATE if _is_root() else user_state()


def _own_user() -> tuple[str, ...]:
    if _is_root():
        return ()
    try:
        return (pwd.getpwuid(os.getuid()).pw_name,)
    except KeyError:  # a container that runs under a bare number
        return (str(os.getuid()),)


@dataclass(frozen=True)
class Imds:
    """How the instance metadata service is asked."""

    endpoint: str = _setting(
        ENDPOINT,
        "ipv4",
        'Where EC2\'s metadata service is: "ipv4" (169.254.169.254), "ipv6" ([fd00:ec2::254]), '
        'a URL (to rehearse with `spotwatch fake-imds`), or "off" on a machine that has none.',
    )
    poll_seconds: float = _seconds(
        0.05, 60, 2.0, "Time between two looks. A notice is seen up to this much later."
    )
    timeout: float = _seconds(0.05, 30, 1.0, "Time for one look; the next look is the retry.")
    imds_v1: bool = _setting(
        Switch(), False, "Also ask without a session token, where IMDSv2 is not to be had."
    )
    asg_seconds: float = _seconds(
        1, 7200, 120.0, "Time to save when Auto Scaling says only that it ends the instance."
    )
    event_lead_seconds: float = _seconds(
        0, 86400, 300.0, "How long before a scheduled event (reboot, retirement) the saving begins."
    )


@dataclass(frozen=True)
class Checkpoint:
    """When jobs save and what is kept."""

    interval: float | str = _setting(
        WordOr("auto", Number(0, 86400, "seconds")),
        "auto",
        'Time between two background saves, for jobs that name none. "auto" weighs the measured '
        "cost of a save against mtbf_hours (Young/Daly); 0 never saves without being asked.",
        unit="seconds",
    )
    mtbf_hours: float = _setting(
        Number(0.01, 10000, "hours"),
        3.0,
        "How long a machine lasts on average before it dies without a usable notice.",
        unit="hours",
    )
    min_interval: float = _seconds(
        0, 86400, 10.0, 'The shortest time that "auto" may choose between two saves.'
    )
    max_interval: float = _seconds(
        1, 86400, 1800.0, 'The longest time that "auto" may choose between two saves.'
    )
    keep_last: int = _setting(
        Whole(1, 10000), 3, "How many of the newest checkpoints of a job stay in the store."
    )
    keep_every: int = _setting(
        Whole(0, 10**9),
        0,
        "Also keep every checkpoint whose step is a multiple of this; 0 keeps none.",
    )
    grace_seconds: float = _seconds(
        0, 86400, 60.0, "How long a checkpoint that left the list stays for those who read it."
    )
    upload_limit: int | None = _setting(
        Size(1000, 10**12),
        None,
        "The most bytes a second that a job's checkpoints may take of the network while no "
        'interruption is near, e.g. "50MB". From a notice on there is no such limit.',
        example="none",
    )


@dataclass(frozen=True)
class Lease:
    """The right to run a job, which one machine has at a time."""

    seconds: float = _seconds(
        0.5,
        3600,
        30.0,
        "How long a machine that fell silent keeps its jobs before another may take them.",
    )


@dataclass(frozen=True)
class Jobs:
    """Limits and patience with jobs."""

    max_crashes: int = _setting(
        Whole(1, 1000), 3, "Crashes in a row without a new step after which a job is given up."
    )
    stop_grace: float = _seconds(
        0, 3600, 30.0, "Time between asking a process to end and killing it."
    )
    undrain_after: float = _seconds(
        1, 86400, 240.0, "Time after the deadline when a machine that still lives works again."
    )
    max_jobs: int = _setting(Whole(1, 10000), 64, "How many jobs may be registered.")
    max_processes: int = _setting(
        Whole(1, 100000), 4096, "How many processes may be registered, over all jobs."
    )


@dataclass(frozen=True)
class Resources:
    """What this machine has for jobs that ask for it (docs/several-jobs.md)."""

    gpus: int | str = _setting(
        WordOr("auto", Whole(0, 1024)),
        "auto",
        'How many GPUs may be given to jobs: those with the indices 0, 1 and so on. "auto" asks '
        "nvidia-smi, then looks into /proc/driver/nvidia. A number also stands for accelerators "
        "of other makers; jobs find their indices in SPOTWATCH_GPUS.",
    )
    cpu_jobs: int | None = _setting(
        Whole(1, 10000),
        None,
        "How many jobs that use no GPU may run at a time.",
        example="none, so any number",
    )


@dataclass(frozen=True)
class Log:
    """What is logged, and how it looks."""

    format: str = _setting(
        one_of("text", "json", "auto"),
        "auto",
        '"text" for people, "json" for machines, "auto" is text on a terminal and in the '
        "journal and json elsewhere.",
    )
    level: str = _setting(
        one_of("debug", "info", "warning", "error"), "info", "The least important events logged."
    )


@dataclass(frozen=True)
class Config:
    """The daemon's configuration. ``Config()`` has the defaults for the user who asks.

    Attributes:
        private: a daemon that one user runs for themselves: it ends when no unfinished job
            is left. Set by ``spotwatchd --private`` and by nothing else.
    """

    store: str | None = _setting(
        STORE,
        None,
        "Where checkpoints go when a job names no store of its own: s3://BUCKET/PREFIX or "
        "file:///DIRECTORY.",
        example="none",
    )
    socket: Path = _setting(  # noqa: RUF009 - it returns a dataclass field
        ABSOLUTE,
        None,
        "The Unix socket that jobs and people talk to.",
        example=f"runtime_dir/{SOCKET_NAME}",
    )
    socket_mode: int = _setting(
        Mode(),
        lambda: 0o666 if _is_root() else 0o600,
        "Permission bits of the socket. Who may see and change a job is decided by the "
        "caller's uid, whatever this says.",
        example='"0666" as root, else "0600"',
    )
    runtime_dir: Path = _setting(  # noqa: RUF009 - it returns a dataclass field
        ABSOLUTE,
        _runtime,
        "Directory for what a reboot may take away: socket, notice boards, output of jobs.",
        example=f'"{SYSTEM_RUNTIME}" as root, else below $XDG_RUNTIME_DIR',
    )
    state_dir: Path = _setting(  # noqa: RUF009 - it returns a dataclass field
        ABSOLUTE,
        _state,
        "Directory for what must outlive a reboot: the journal.",
        example=f'"{SYSTEM_STATE}" as root, else below $XDG_STATE_HOME or ~/.local/state',
    )
    machine: str | None = _setting(
        MACHINE,
        None,
        "Name of this machine in leases, different on every machine that shares a store.",
        example="from the machine id and the EC2 instance id",
    )
    allowed_users: tuple[str, ...] = _setting(
        Names(),
        _own_user,
        "Users as whom jobs found in the store may run here. Who can write to the store can run "
        'code as these users. "ubuntu:ml" runs as ml here what is ubuntu\'s there. Nothing from '
        "a store ever runs as root, named or not.",
        example="the daemon's own user; none as root",
    )
    resume_from_store: bool = _setting(
        Switch(), True, "Start unfinished jobs that are found in the store."
    )
    checkpoint_root: Path | None = _setting(  # noqa: RUF009 - a field(), as all
        ABSOLUTE,
        None,
        "Directory below which jobs found in the store keep their checkpoints on this machine, "
        "one directory each; without it they use the path of the machine they come from.",
        example="none",
    )
    imds: Imds = field(default_factory=Imds)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    lease: Lease = field(default_factory=Lease)
    jobs: Jobs = field(default_factory=Jobs)
    resources: Resources = field(default_factory=Resources)
    log: Log = field(default_factory=Log)
    private: bool = False

    def __post_init__(self) -> None:
        if self.socket is None:
            object.__setattr__(self, "socket", self.runtime_dir / SOCKET_NAME)


SECTIONS: dict[str, type[Any]] = {
    "imds": Imds,
    "checkpoint": Checkpoint,
    "lease": Lease,
    "jobs": Jobs,
    "resources": Resources,
    "log": Log,
}


def _default(section: type[Any], name: str) -> Any:
    return getattr(section(), name)


def _of(prefix: str, section: type[Any]) -> Iterator[tuple[str, Setting, Callable[[], Any]]]:
    for item in fields(section):
        setting = item.metadata.get("setting")
        if setting is not None:
            yield prefix + item.name, setting, partial(_default, section, item.name)


def settings() -> Iterator[tuple[str, Setting, Callable[[], Any]]]:
    """Every setting: dotted name, what is known of it, and its default on this machine."""
    yield from _of("", Config)
    for name, section in SECTIONS.items():
        yield from _of(f"{name}.", section)


def environment_name(name: str) -> str:
    """The environment variable of a setting, e.g. SPOTWATCH_IMDS_POLL_SECONDS."""
    return "SPOTWATCH_" + name.replace(".", "_").upper()
