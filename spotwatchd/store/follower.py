"""Sends a checkpoint while it is being written, so that at its seal little is left to send.

The checkpoint directory is looked at again and again. Parts of growing files that are
complete go to the store under the id that the seal will get. At the seal the uploads are
handed over (``claim``); what no seal takes over is aborted. Nothing here needs to be right:
the bytes are summed again at the seal, and what changed is sent again.

One thread looks and decides, a few send. ``claim`` is called by the worker.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.words import Seal
from spotwatchd.errors import Damaged, LeaseLost, SpotwatchError
from spotwatchd.store.base import Backend
from spotwatchd.store.checkpoints import LocalFile
from spotwatchd.store.drafts import Draft, GrowingFile, Identity, drafts, identity_of
from spotwatchd.store.early import SMALLEST, EarlyCheckpoint, EarlyFile, send
from spotwatchd.store.job_file import JobFile
from spotwatchd.store.numbers import Numbers
from spotwatchd.store.pace import Pace
from spotwatchd.store.patience import Cancelled, Patience
from spotwatchd.store.shipping import HeadStart
from spotwatchd.store.swap import boottime

# How often the directory is looked at: a listing of a few names when nothing is written.
IDLE, WRITING, URGENT = 0.5, 0.1, 0.05
THREADS = 8
_IN_BACKGROUND = 1
_TELL_EVERY = 0.5
# The upload command follows the seal at once, or after the one that is under way.
_UNCLAIMED_SECONDS = 600.0
# More checkpoints than this at a time are not written by any program we know of.
_MOST = 4
_REST = 1.0
_HANDOVER_SECONDS = 5.0
# No part may hold a sender for longer; what is slower than that is no head start.
_PART_SECONDS = 300.0


class Owner(Protocol):
    """What the follower needs of custody.Custody."""

    numbers: Numbers

    def reserve(self, step: int) -> CheckpointId:
        """An id for a checkpoint that is not sealed yet. Raises LeaseLost, OSError."""

    def is_mine(self, checkpoint: CheckpointId) -> bool:
        """Whether it was reserved under the tenure that is held."""


class Voice(Protocol):
    """Where a follower's news go. Any thread."""

    def say(self, event: dict[str, Any]) -> None:
        """An event for the daemon."""

    def log(self, line: str) -> None:
        """One line for people."""


class Follower:
    """See the head of this file.

    Args:
        voice: where events and lines for people go.

    Attributes:
        busy: whether a sealed checkpoint is on its way under a deadline: it goes first.
        enter: called at the begin of each thread that sends.
    """

    def __init__(
        self,
        job: JobFile,
        backend: Backend,
        owner: Owner,
        pace: Pace,
        voice: Voice,
    ) -> None:
        self.job = job
        self.backend = backend
        self.urgent = False
        self._owner = owner
        self._pace = pace
        self._voice = voice
        self.busy: Callable[[], bool] = lambda: False
        self.enter: Callable[[], None] = lambda: None
        self._lock = threading.Condition()
        self._followed: dict[Identity, EarlyCheckpoint] = {}
        self._tasks: queue.Queue[tuple[EarlyCheckpoint, EarlyFile, int, int]] = queue.Queue()
        self._going = 0
        self._dead: list[tuple[str, str]] = []
        self._wake = threading.Event()
        self._over = threading.Event()
        self._told = ""
        # What was handed over may be found once more before it counts as old.
        self._done: deque[GrowingFile] = deque(maxlen=16)

    # ------------------------------------------------------------------ threads

    def run(self) -> None:
        """Follow until ``stop``."""
        for number in range(THREADS):
            name = f"follower-{number}"
            threading.Thread(target=self._send_forever, name=name, daemon=True).start()
        while not self._over.is_set():
            self.look()
            self._wake.wait(self._pause())
            self._wake.clear()

    def stop(self) -> None:
        """End soon."""
        self._over.set()
        self._wake.set()

    def hurry(self, *, urgent: bool) -> None:
        """Look more often and send with more threads, or not any more."""
        self.urgent = urgent
        self._wake.set()

    def _pause(self) -> float:
        if self.urgent:
            return URGENT
        with self._lock:
            return WRITING if self._followed else IDLE

    def look(self) -> None:
        """Look once, and give the senders what is worth sending."""
        try:
            found = list(drafts(self.job.checkpoint_dir, self.job.checkpoint_glob))
        except OSError as error:
            self._note(f"cannot look for what is being written: {error.strerror}")
            return
        with self._lock:
            for draft in found:
                self._see(draft)
            self._forget_the_lost()
            self._hand_out()
        self._bury()
        self._tell()

    # ------------------------------------------------------------------ looking

    def _see(self, draft: Draft) -> None:
        known = self._followed.get(draft.identity)
        if known is None:
            if len(self._followed) >= _MOST or not self._is_worth_it(draft):
                return
            try:
                checkpoint = self._owner.reserve(draft.step)
            except (LeaseLost, OSError):
                return
            known = EarlyCheckpoint(checkpoint, draft.identity, draft.path, boottime())
            self._followed[draft.identity] = known
        if not known.closed:
            known.see(draft, self.job.name)

    def _is_worth_it(self, draft: Draft) -> bool:
        large = any(file.size >= SMALLEST for file in draft.files)
        return large and not any(
            replace(d, path=f.path) == f for d in self._done for f in draft.files
        )

    def _forget_the_lost(self) -> None:
        for identity, known in list(self._followed.items()):
            if self._is_lost(known):
                del self._followed[identity]
                self._drop(known)

    def _is_lost(self, known: EarlyCheckpoint) -> bool:
        if not self._owner.is_mine(known.checkpoint):
            return True
        age = boottime() - known.seen_at
        if age < _REST:
            return False
        return age > _UNCLAIMED_SECONDS or not self._exists(known)

    def _exists(self, known: EarlyCheckpoint) -> bool:
        """Whether it is there under some name: renamed is sealed, and waits for its claim."""
        directory = self.job.checkpoint_dir
        names = {directory / known.path, *directory.glob("step-*")}
        names |= {file.found.path for file in known.files.values()}
        names |= {directory / file.found.name for file in known.files.values()}
        return any(identity_of(path) == known.identity for path in names)

    def _drop(self, known: EarlyCheckpoint) -> None:
        known.closed = True
        self._owner.numbers.unreserve(known.checkpoint)
        for file in known.files.values():
            self._give_up(file)

    def _give_up(self, file: EarlyFile) -> None:
        # What is on its way to the store gives its own upload up when it comes back.
        if file.upload and not file.going:
            self._dead.append((file.key, file.upload))
            file.upload = ""

    def _bury(self) -> None:
        """Abort what nobody takes over. What cannot be aborted now is swept later."""
        with self._lock:
            dead, self._dead = self._dead, []
        for key, upload in dead:
            try:
                self.backend.abort(key, upload)
            except SpotwatchError as error:
                self._note(f"cannot give up an upload: {error.what}")

    # ------------------------------------------------------------------ sending

    def _hand_out(self) -> None:
        most = THREADS if self.urgent else _IN_BACKGROUND
        if self.busy() or self._pace.stopped:
            return
        for known in self._followed.values():
            for file in known.files.values() if not known.closed else ():
                # The first part begins the upload; the others need its token.
                while self._going < most and (file.upload or not file.going):
                    part = file.next_part(self.backend.part_size)
                    if part is None:
                        break
                    file.going[part[0]] = part[1]
                    self._going += 1
                    self._tasks.put((known, file, *part))

    def _send_forever(self) -> None:
        self.enter()
        while not self._over.is_set():
            try:
                task = self._tasks.get(timeout=1.0)
            except queue.Empty:
                continue
            self._send(*task)
            self._wake.set()

    def _send(self, known: EarlyCheckpoint, file: EarlyFile, number: int, size: int) -> None:
        def still() -> None:
            if known.closed and boottime() - known.seen_at > _HANDOVER_SECONDS:
                raise Cancelled("nobody waits for it")

        limits = Patience(
            boottime() + _PART_SECONDS, self._over, still=still, flow=self._pace.spend
        )
        part = None
        try:
            if not file.upload:
                file.upload = self.backend.begin(file.key, limits)
            part = send(self.backend, file, number, size, limits)
        except (SpotwatchError, OSError) as error:
            if not isinstance(error, Damaged | Cancelled):
                self._note(f"cannot send early: {error}")
            file.rests_until = boottime() + _REST
        with self._lock:
            self._going -= 1
            del file.going[number]
            if part is not None:
                file.sent[number] = part
            if self._followed.get(known.identity) is not known:
                self._give_up(file)
            self._lock.notify_all()

    # ------------------------------------------------------------------ the seal

    def claim(
        self, seal: Seal, files: Sequence[LocalFile], check: Callable[[], None]
    ) -> tuple[CheckpointId, dict[str, HeadStart]] | None:
        """Hand over what was sent of a checkpoint that is sealed now (any thread).

        Returns its reserved id and the head starts by file name; None: nothing was sent, and
        the id is free. Either way the follower has done with it. ``check`` may raise.
        """
        identity = identity_of(self.job.checkpoint_dir / seal.path)
        with self._lock:
            known = None if identity is None else self._followed.get(identity)
            if known is None:
                return None
            known.closed, known.seen_at = True, boottime()
            self._await(known, check)
            del self._followed[known.identity]
            self._done.extend(file.found for file in known.files.values())
            wanted = seal.step == known.checkpoint.step and self._owner.numbers.use(
                known.checkpoint
            )
            starts = self._starts(known, files) if wanted else {}
            if not starts:
                self._drop(known)
                self._wake.set()
                return None
            return known.checkpoint, starts

    def _await(self, known: EarlyCheckpoint, check: Callable[[], None]) -> None:
        """Parts that are half way are worth the wait, unless they hang."""
        end = boottime() + _HANDOVER_SECONDS
        while known.going and boottime() < end:
            self._lock.wait(0.2)
            check()

    def _starts(self, known: EarlyCheckpoint, files: Sequence[LocalFile]) -> dict[str, HeadStart]:
        found = {}
        sealed = {file.identity: file for file in files}
        for identity, early in known.files.items():
            wanted = sealed.get(identity)
            if wanted is not None and wanted.name == early.found.name and early.sent:
                found[wanted.name] = HeadStart(early.upload, dict(early.sent))
                early.upload = ""  # no longer ours to abort
            else:
                self._give_up(early)
        return found

    # ------------------------------------------------------------------ telling

    def _tell(self) -> None:
        now = boottime()
        with self._lock:
            due = [
                known
                for known in self._followed.values()
                if not known.closed and now - known.told_at >= _TELL_EVERY and known.bytes_sent
            ]
            for known in due:
                known.told_at = now
            events = [(known.path, known.bytes_sent, known.size) for known in due]
        for path, sent, size in events:
            self._voice.say({"event": "growing", "path": path, "sent": sent, "size": size})

    def _note(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._voice.log(line)
