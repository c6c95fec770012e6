"""What the daemon remembers of a job besides the core's decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from spotwatchd.control.bodies import EXTERNAL, JobBody
from spotwatchd.core.words import Seal
from spotwatchd.engine.broadcast import Broadcast
from spotwatchd.engine.link import Link
from spotwatchd.engine.outside import Outside
from spotwatchd.engine.preparing import Preparing
from spotwatchd.errors import Damaged
from spotwatchd.jobs.inside import Inside
from spotwatchd.jobs.pidfd import Watched
from spotwatchd.wire.attempt import ask_signal
from spotwatchd.wire.board import BoardWriter
from spotwatchd.wire.paths import BOARD_NAME


@dataclass
class Kept:
    """The part that survives the daemon: what the journal holds of a job.

    Attributes:
        uid, gid: of the user who registered it.
        body: as registered.
        run_id: identity of the run.
        store: URL of its store.
        created_at: ISO 8601.
        attempt: newest attempt started on this machine.
        asked: newest ask number.
        told: that ask said to leave.
        finished: the job said ``finish()`` in this attempt.
        running: an attempt was started whose end was not seen yet.
        outcome, exit_status: of the newest attempt that ended.
        ended: it will not be run again here.
        origin: its user as the store names them; "" when it was registered on this machine.
        reason: why it waits or ended, for people.
        revision, replaces: see identity.Place.
        gpus: indices that the newest attempt was given, None when it did not ask.
        cgroups: of its containers, as far as they have their own.
    """

    uid: int
    gid: int
    body: JobBody
    run_id: str
    store: str
    created_at: str
    attempt: int = 0
    asked: int = 0
    told: bool = False
    finished: bool = False
    running: bool = False
    outcome: str | None = None
    exit_status: int | None = None
    ended: bool = False
    reason: str | None = None
    revision: int = 0
    replaces: str = ""
    origin: str = ""
    gpus: list[int] | None = None
    cgroups: list[str] = field(default_factory=list)

    @property
    def foreign(self) -> bool:
        """It came from the store, not from a user of this machine."""
        return bool(self.origin)

    def to_document(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)

    @classmethod
    def from_document(cls, name: str, document: dict[str, Any]) -> Kept:
        """From the journal. Raises Damaged when it is not what was written."""
        try:
            names = {each.name for each in fields(cls)}
            known = {key: value for key, value in document.items() if key in names}
            known["body"] = JobBody(**known["body"])
            return cls(**known)
        except (KeyError, TypeError) as error:
            raise Damaged(
                f"the journal's entry of job {name} cannot be read: {error}",
                remedy="the job is left alone; register it again with spotwatch run",
            ) from error


@dataclass
class Record:
    """A job while the daemon runs."""

    name: str
    kept: Kept
    directory: Path
    inside: Inside
    board: BoardWriter
    link: Link
    outside: Outside
    events: Broadcast = field(default_factory=Broadcast)
    processes: dict[str, Watched] = field(default_factory=dict)
    taken: bool = False
    restored: Seal | None = None
    cause: str = "first"
    step: int | None = None
    sealed_step: int | None = None
    committed_step: int | None = None
    committed_at: str | None = None
    upload_seconds: float | None = None
    upload_bytes: int | None = None
    awaiting_first_step: bool = False
    told_stop: bool = False  # the wish to stop is on its way to the store
    restart: bool = False  # start it again once it has stopped
    complaints: dict[str, float] = field(default_factory=dict)
    preparing: Preparing | None = None
    queued: str | None = None  # why it waits for room, as people were told
    keeper: str | None = None  # among the processes: the one that starts the program

    @property
    def managed(self) -> bool:
        """The daemon starts it."""
        return self.kept.body.managed

    @property
    def ask_signal(self) -> int | None:
        """The signal that tells its program of an interruption."""
        return ask_signal(self.kept.body.signal, self.kept.body.checkpoint_glob)

    @property
    def mark(self) -> Path | None:
        """What the processes carry that an external launcher starts here (jobs/leftovers.py)."""
        return self.directory if self.kept.body.resume == EXTERNAL else None

    @property
    def for_receipt(self) -> dict[str, Any]:
        """What the receipt of an interruption says of the job from its beginning."""
        command = self.kept.body.resume_command
        return {"step": self.committed_step, "resume_command": command}

    @property
    def board_path(self) -> Path:
        """Where its processes find its notice board."""
        return self.inside.path / BOARD_NAME

    @property
    def attempt_directory(self) -> Path:
        """Where the newest attempt's output and exit status are."""
        return self.directory / f"attempt-{self.kept.attempt:06d}"

    @property
    def resume_path(self) -> str | None:
        """Absolute path of the checkpoint that the attempt resumes from."""
        if self.restored is None:
            return None
        return str(Path(self.kept.body.checkpoint_dir) / self.restored.path)
