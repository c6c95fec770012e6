"""What the socket needs from the rest of the daemon. ``control`` knows only this.

Every method may raise SpotwatchError: JobError and ConfigError become 422, Conflict and
LeaseLost 409, anything else 503; an exception that is none is a defect (500). Documents are
plain JSON values. A call goes on when its client hangs up; only ``ControlServer.close``
cancels what then still runs. An iterator is closed (``aclose``) when its reader leaves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from spotwatchd.control.bodies import (
    ControlBody,
    FinishBody,
    InterruptBody,
    JobBody,
    LogBody,
    ProcessBody,
    ProgressBody,
    SealBody,
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of the connection, as the kernel says.

    Attributes:
        pid: at connect time, in the daemon's pid namespace (0 when it has none there).
        uid: decides what may be seen and changed.
        gid: primary group.
        started: start time in clock ticks after boot (field 22 of /proc/PID/stat).
        inside: it came over the job's own socket, so from a container: paths of this machine
            mean nothing to it.
    """

    pid: int
    uid: int
    gid: int
    started: int
    inside: bool = False


class Desk(Protocol):
    """Answers for the routes. Authorisation was done before: ``owner`` is asked first."""

    def owner(self, name: str) -> int | None:
        """The uid that owns job ``name``, or None when there is no such job."""

    async def status(self, uid: int) -> Document:
        """Watch, store, drain and the jobs that ``uid`` may see."""

    async def receipts(self, uid: int) -> list[Document]:
        """Receipts of interruptions, newest first, cut to what ``uid`` may see."""

    async def job(self, name: str) -> Document:
        """One job."""

    async def submit(self, peer: Peer, body: JobBody) -> tuple[Document, bool]:
        """Register a job. Returns it, and True when it is new."""

    async def join(self, peer: Peer, pidfd: int, name: str, body: ProcessBody) -> Document:
        """Register a process. Returns board path and resume facts.

        Takes ownership of ``pidfd``, also when it raises.
        """

    async def seal(self, name: str, body: SealBody) -> Document:
        """Note a save that begins or a checkpoint that is sealed."""

    async def progress(self, name: str, body: ProgressBody) -> Document:
        """Note the step that training has reached (first step after a resume)."""

    async def finish(self, name: str, body: FinishBody) -> Document:
        """The job says that it is really done."""

    async def ask(self, name: str) -> Document:
        """Ask for a checkpoint now."""

    async def stop(self, name: str) -> Document:
        """Ask for a checkpoint, then end the job here and everywhere."""

    async def control(self, peer: Peer, body: ControlBody) -> Document:
        """Stop, start or remove a job everywhere, also one that is not known here."""

    async def log(self, name: str, body: LogBody) -> Document:
        """The end of an attempt's output, from the store."""

    async def interrupt(self, body: InterruptBody) -> Document:
        """A notice by hand (root or the daemon's own user)."""

    def events(self, name: str) -> AsyncIterator[Document]:
        """What happens to the job, from now on."""

    def replicator_commands(self, name: str) -> AsyncIterator[Document]:
        """Commands for the job's replicator; ends when a newer replicator connects."""

    async def replicator_event(self, name: str, body: Document) -> Document:
        """An answer or a fact from the job's replicator."""
