"""Request bodies: the one definition that the parser and the OpenAPI document are made from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class JobBody:
    """A job to register (POST /v1/jobs).

    Attributes:
        name: 1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit.
        checkpoint_dir: absolute path.
        argv: the command; null for a job that somebody else starts.
        cwd: absolute path of its working directory.
        env: environment of the command, complete.
        checkpoint_glob: pattern below checkpoint_dir for programs without the client.
        store: URL; null takes the daemon's default.
        signal: name of a signal that asks an unmodified program to save, e.g. "SIGTERM".
        interval: seconds between background saves; null: chosen from measured cost; 0: never.
        run_id: identity of the run; null makes one.
    """

    name: str
    checkpoint_dir: str
    argv: list[str] | None = None
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    checkpoint_glob: str | None = None
    store: str | None = None
    signal: str | None = None
    interval: float | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class ProcessBody:
    """A process to register (POST /v1/jobs/{name}/processes)."""

    rank: int = 0
    world_size: int = 1
    step: int | None = None


@dataclass(frozen=True)
class SealBody:
    """A save that begins or a checkpoint that is sealed (POST /v1/jobs/{name}/checkpoints).

    Attributes:
        phase: "saving" or "sealed".
        step: training step.
        path: relative to the checkpoint directory ("" while saving).
        mark: inode and mtime_ns of the sealed directory, "INODE-MTIME".
        ask: number of the ask that it answers, 0 for none.
        seconds: duration of the save, when sealed.
        rank, world_size: which process speaks.
    """

    phase: str
    step: int
    path: str = ""
    mark: str = ""
    ask: int = 0
    seconds: float | None = None
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class ProgressBody:
    """A step that training has completed (POST /v1/jobs/{name}/progress)."""

    step: int
    rank: int = 0


@dataclass(frozen=True)
class FinishBody:
    """The job is really done (POST /v1/jobs/{name}/finish)."""

    step: int | None = None
    rank: int = 0


@dataclass(frozen=True)
class InterruptBody:
    """A notice by hand (POST /v1/interrupt).

    Attributes:
        seconds: until the deadline.
        action: terminate, stop, hibernate or reboot.
    """

    seconds: float = 120.0
    action: str = "terminate"
