"""Request bodies: the one definition that the parser and the OpenAPI document are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from spotwatchd.control import constraints as c
from spotwatchd.core.code import parse_code
from spotwatchd.errors import Damaged

# Of ``resume``: another scheduler starts the job, on every machine.
EXTERNAL = "external"


@dataclass(frozen=True)
class Body:
    """What all request bodies share."""

    def contradiction(self) -> tuple[str, str] | None:
        """The first field that does not fit the others and what it must be, or None."""
        return None


@dataclass(frozen=True)
class JobBody(Body):
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
        change: where the name exists with another spec: "continue" takes the new one and keeps
            checkpoints and run, "new" begins another run; null refuses.
        env_file: absolute path of a file of NAME=VALUE lines on the machine: secrets, read
            only when the program starts.
        env_command: for /bin/sh; prints NAME=VALUE lines. The same.
        data: absolute paths that must be there before the program starts.
        prepare: for /bin/sh; run in the working directory before each attempt.
        python: of the interpreter: executable, version, prefix, kind (venv, conda, system).
        code: null, or where the code is: kind git (url, commit, root) or kind bundle
            (sha256, size, unpacked, entries, root; numbers as text).
        bundle: absolute path of the bundle on this machine.
        gpus: how many it gets for itself; 0: none; null: it sees all, as others that say nothing.
        priority: higher starts first where there is not room for all.
        resume: "external": another scheduler starts the command, never this daemon nor any
            other; it is asked and saved like all; null: daemons do.
        resume_command: for people: how to go on with a job that no daemon starts.
    """

    name: Annotated[str, c.JOB_NAME]
    checkpoint_dir: Annotated[str, c.ABSOLUTE]
    argv: Annotated[list[Annotated[str, c.ARGUMENT]], c.COMMAND] | None = None
    cwd: Annotated[str, c.ABSOLUTE] | None = None
    env: Annotated[
        dict[Annotated[str, c.VARIABLE], Annotated[str, c.VARIABLE_VALUE]], c.ENVIRONMENT
    ] = field(default_factory=dict)
    checkpoint_glob: Annotated[str, c.GLOB] | None = None
    store: Annotated[str, c.STORE] | None = None
    signal: Annotated[str, c.SIGNAL] | None = None
    interval: Annotated[float, c.INTERVAL] | None = None
    run_id: Annotated[str, c.RUN_ID] | None = None
    change: Annotated[str, c.CHANGE] | None = None
    env_file: Annotated[str, c.ABSOLUTE] | None = None
    env_command: Annotated[str, c.SHELL] | None = None
    data: Annotated[list[Annotated[str, c.ABSOLUTE]], c.PATHS] = field(default_factory=list)
    prepare: Annotated[str, c.SHELL] | None = None
    python: Annotated[dict[Annotated[str, c.FACT_NAME], Annotated[str, c.FACT]], c.FACTS] | None = (
        None
    )
    code: Annotated[dict[Annotated[str, c.FACT_NAME], Annotated[str, c.FACT]], c.FACTS] | None = (
        None
    )
    bundle: Annotated[str, c.ABSOLUTE] | None = None
    gpus: Annotated[int, c.GPUS] | None = None
    priority: Annotated[int, c.PRIORITY] = 0
    resume: Annotated[str, c.RESUME] | None = None
    resume_command: Annotated[str, c.ONE_LINE] | None = None

    @property
    def managed(self) -> bool:
        """Daemons start it."""
        return self.argv is not None and self.resume is None

    def contradiction(self) -> tuple[str, str] | None:
        """The program needs a name; later arguments may be empty strings."""
        if self.argv is not None and not self.argv[0]:
            return "argv[0]", "the program to run, not an empty string"
        try:
            parse_code(self.code, "code")
        except Damaged as error:
            # Without what was found: a URL may hold a password.
            field, _, wanted = error.what.partition(", found ")[0].partition(": expected ")
            return f"code.{field}", wanted or "an object that names git or a bundle"
        return None


@dataclass(frozen=True)
class ControlBody(Body):
    """What a person wants of a job, on every machine (POST /v1/control).

    Attributes:
        name: of the job, also of one that this machine does not know.
        do: stop, start or remove.
        save: of stop: let it save first.
        store: where a job lies that this machine does not know; null: the daemon's default.
    """

    name: Annotated[str, c.JOB_NAME]
    do: Annotated[str, c.WISH]
    save: Annotated[bool, c.SAVE] = True
    store: Annotated[str, c.STORE] | None = None


@dataclass(frozen=True)
class LogBody(Body):
    """Which attempt's output to bring from the store (POST /v1/jobs/{name}/log)."""

    attempt: Annotated[int, c.STEP] | None = None


@dataclass(frozen=True)
class ProcessBody(Body):
    """A process to register (POST /v1/jobs/{name}/processes). It is the caller itself.

    Attributes:
        rank, world_size: which of the job's processes.
        step: that training has reached.
        keeper: it starts the program of an external job and stays until that is over; one at
            a time. It saves nothing itself.
    """

    rank: Annotated[int, c.RANK] = 0
    world_size: Annotated[int, c.WORLD] = 1
    step: Annotated[int, c.STEP] | None = None
    keeper: Annotated[bool, c.KEEPER] = False

    def contradiction(self) -> tuple[str, str] | None:
        """A rank counts from 0 to world_size - 1."""
        return _rank_fits(self.rank, self.world_size)


@dataclass(frozen=True)
class SealBody(Body):
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

    phase: Annotated[str, c.PHASE]
    step: Annotated[int, c.STEP]
    path: Annotated[str, c.RELATIVE] = ""
    mark: Annotated[str, c.MARK] = ""
    ask: Annotated[int, c.ASK] = 0
    seconds: Annotated[float, c.DURATION] | None = None
    rank: Annotated[int, c.RANK] = 0
    world_size: Annotated[int, c.WORLD] = 1

    def contradiction(self) -> tuple[str, str] | None:
        """A sealed checkpoint has a place; a rank is below world_size."""
        if self.phase == "sealed" and not self.path:
            return "path", "the path of the sealed checkpoint"
        return _rank_fits(self.rank, self.world_size)


@dataclass(frozen=True)
class ProgressBody(Body):
    """A step that training has completed (POST /v1/jobs/{name}/progress)."""

    step: Annotated[int, c.STEP]
    rank: Annotated[int, c.RANK] = 0


@dataclass(frozen=True)
class FinishBody(Body):
    """The job is really done (POST /v1/jobs/{name}/finish)."""

    step: Annotated[int, c.STEP] | None = None
    rank: Annotated[int, c.RANK] = 0


@dataclass(frozen=True)
class InterruptBody(Body):
    """A notice by hand (POST /v1/interrupt).

    Attributes:
        seconds: until the deadline.
        action: terminate, stop, hibernate or reboot.
    """

    seconds: Annotated[float, c.WINDOW] = 120.0
    action: Annotated[str, c.ACTION] = "terminate"


def _rank_fits(rank: int, world_size: int) -> tuple[str, str] | None:
    if rank < world_size:
        return None
    return "rank", f"below world_size, which is {world_size}"
