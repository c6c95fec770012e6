"""The checkpoint directory: what the job sealed in it, and what may go from it."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

from spotwatchd.core.retention import LocalCopy, local_surplus
from spotwatchd.core.words import Seal
from spotwatchd.errors import Damaged
from spotwatchd.store.local_journal import LocalJournal, LocalSeal, Reign, read_journal
from spotwatchd.store.local_scan import Scanner, mark_of
from spotwatchd.store.restore import discard, remove
from spotwatchd.wire.seal import step_of

STALE_PREFIX = ".stale-"
# Work that another owner has overtaken is kept for a person to look at, but not for ever.
_STALE_KEPT = 2


class Local:
    """The checkpoint directory of one job. May be called from several threads.

    Args:
        settle: seconds for which a plain file must not change to count as sealed.
    """

    def __init__(
        self, directory: Path, job: str, glob: str | None = None, *, settle: float = 5.0
    ) -> None:
        self.directory = directory
        self._scanner = Scanner(directory, glob, settle)
        # Held during a take, so that no scan sees the directory half arranged.
        self.lock = threading.RLock()
        self._journal = read_journal(directory, job)

    # ------------------------------------------------------------------ what is there

    def scan(self) -> list[Seal]:
        """The checkpoints that were sealed since the last look, oldest first. Raises OSError."""
        with self.lock:
            found = sorted(self._scanner.sealed())
            gone = {e.seal.path for e in self._journal.seals} - {seal.path for *_, seal in found}
            new = [seal for *_, seal in found if not self._knows(seal)]
            journal = self._journal.without(gone)
            for seal in new:
                journal = journal.with_seal(LocalSeal(seal, journal.reign))
            self._save(journal)
            return new

    def _knows(self, seal: Seal) -> bool:
        entry = self._journal.find(seal.path)
        return entry is not None and entry.seal.mark == seal.mark

    # ------------------------------------------------------------------ what is known

    def _save(self, journal: LocalJournal) -> None:
        if journal != self._journal:
            self._journal = journal
            self._journal.save()

    @property
    def entries(self) -> tuple[LocalSeal, ...]:
        """Every known checkpoint, oldest first."""
        return self._journal.seals

    def find(self, path: str) -> LocalSeal | None:
        """What is known of the checkpoint at ``path``."""
        return self._journal.find(path)

    def newest(self) -> Seal | None:
        """The newest one of the current tenure."""
        mine = [e.seal for e in self._journal.seals if e.reign == self._journal.reign]
        return mine[-1] if mine else None

    def note(self, seal: Seal) -> Seal:
        """A seal somebody told us of, with its mark. Raises Damaged, OSError."""
        with self.lock:
            path = self.directory / seal.path
            if seal.path.startswith("/") or ".." in seal.path.split("/"):
                raise Damaged(
                    "a seal's path must stay in the checkpoint directory", where=seal.path
                )
            now = mark_of(path)
            if seal.mark not in ("", now):
                raise Damaged("the checkpoint changed after its seal", where=str(path))
            known = replace(seal, mark=now)
            if not self._knows(known):
                self._save(self._journal.with_seal(LocalSeal(known, self._journal.reign)))
            return known

    def committed(self, path: str, checkpoint: str) -> None:
        """Note that the store has it."""
        with self.lock:
            self._save(self._journal.with_commit(path, checkpoint))

    # ------------------------------------------------------------------ taking

    def claiming(self, ours: Reign, found: Reign) -> Reign:
        """Note that head is about to go from ``found`` to ``ours``.

        Returns the reign under which a local checkpoint must have been made to be of use.
        """
        with self.lock:
            journal = self._journal.claiming(ours, found)
            self._save(journal)
            return journal.claim.before if journal.claim else found

    def usable(self, before: Reign) -> LocalSeal | None:
        """The uncommitted checkpoint that is newer than everything committed, if there is one."""
        mine = [entry for entry in self._journal.seals if entry.reign == before]
        if not mine or mine[-1].committed is not None or not self._intact(mine[-1]):
            return None
        return mine[-1]

    def _intact(self, entry: LocalSeal) -> bool:
        try:
            return mark_of(self.directory / entry.seal.path) == entry.seal.mark
        except OSError:
            return False

    def begin(self, reign: Reign, resumed: LocalSeal | None) -> None:
        """The take is over: from now on what is sealed is sealed under ``reign``."""
        with self.lock:
            self._set_aside(resumed)
            journal = replace(self._journal, reign=reign, claim=None)
            if resumed is not None:
                journal = journal.with_seal(replace(resumed, reign=reign))
            self._save(journal)

    def _set_aside(self, resumed: LocalSeal | None) -> None:
        """Hide what is ahead of the checkpoint that the job goes on from.

        It belongs to a history that another owner has overtaken or that does not verify. A
        program that looks for the newest file by itself must not find it, and the job will
        want to use the same names again.
        """
        step = resumed.seal.step if resumed else -1
        path = resumed.seal.path if resumed else ""
        ahead = {
            entry.seal.path
            for entry in self._journal.seals
            if entry.seal.path != path and entry.seal.step > step
        }
        for name in sorted(ahead):
            self._hide(self.directory / name)
        self._save(self._journal.without(ahead))

    def _hide(self, path: Path) -> None:
        stale = path.with_name(f"{STALE_PREFIX}{path.name}")
        remove(stale)
        if path.exists():
            path.rename(stale)

    # ------------------------------------------------------------------ retention

    def trim(self) -> list[str]:
        """Delete local copies that are not needed any more; returns their paths."""
        with self.lock:
            # Files that match a glob belong to a program with a retention of its own.
            copies = [
                LocalCopy(e.seal.path, e.committed is not None)
                for e in self._journal.seals
                if step_of(e.seal.path) is not None
            ]
            surplus = local_surplus(copies, disk_full=self._disk_is_full())
            for name in surplus:
                discard(self.directory / name, self.directory)
            self._save(self._journal.without(set(surplus)))
            self._trim_stale()
            return surplus

    def _disk_is_full(self) -> bool:
        """Whether the newest checkpoint would not fit once more."""
        if not self._journal.seals:
            return False
        newest = self.directory / self._journal.seals[-1].seal.path
        files = newest.rglob("*") if newest.is_dir() else [newest]
        try:
            size = sum(path.stat().st_size for path in files)
            disk = os.statvfs(self.directory)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < size

    def _trim_stale(self) -> None:
        stale = [path for path in self.directory.glob(f"{STALE_PREFIX}step-*") if path.is_dir()]
        stale.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in stale[:-_STALE_KEPT]:
            remove(path)
