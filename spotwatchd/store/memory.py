"""What a replicator must not forget when it is killed: ``tenure.json`` in its runtime directory.

It need not survive a reboot: after one the lease is taken anew at once (core/lease.py). The
lock in the same directory makes sure that only one process at a time believes it.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from spotwatchd.core.fields import dump, load
from spotwatchd.core.words import Seal
from spotwatchd.errors import LeaseLost, SpotwatchError
from spotwatchd.store.local_journal import parse_seal, seal_json, write_whole


@dataclass(frozen=True)
class Remembered:
    """A tenure of this machine in this boot.

    Attributes:
        boot_id: of the machine when it was taken.
        sequence: the last one that an upload began under: none is used twice.
        taken: the take was answered, so a job may be running on it.
        restored: what it was answered with.
    """

    generation: int
    token: str
    boot_id: str
    sequence: int = 0
    taken: bool = False
    restored: Seal | None = None


class Memory:
    """The file. Any thread."""

    def __init__(self, runtime_dir: Path, boot_id: str) -> None:
        self._path = runtime_dir / "tenure.json"
        self._boot_id = boot_id
        self._lock = threading.RLock()
        self.known = self._read()

    def _read(self) -> Remembered | None:
        try:
            fields = load(self._path.read_bytes(), str(self._path))
            restored = fields.raw.get("restored")
            known = Remembered(
                generation=fields.number("generation"),
                token=fields.text("token"),
                boot_id=fields.text("boot_id"),
                sequence=fields.number("sequence"),
                taken=fields.flag("taken"),
                restored=None if restored is None else parse_seal(fields.child("restored")),
            )
        except (OSError, SpotwatchError):
            return None
        return known if known.boot_id == self._boot_id else None

    def begin(self, generation: int, token: str) -> None:
        """A lease is about to be asked for under ``token``. Raises OSError."""
        with self._lock:
            self._write(Remembered(generation, token, self._boot_id))

    def next_sequence(self, count: int = 1) -> int:
        """``count`` numbers never used in this tenure; returns the highest. Raises OSError."""
        with self._lock:
            if self.known is None:
                raise LeaseLost("no tenure to number checkpoints under")
            known = replace(self.known, sequence=self.known.sequence + count)
            self._write(known)
            return known.sequence

    def took(self, restored: Seal | None) -> None:
        """The take is over. Raises OSError."""
        with self._lock:
            assert self.known is not None  # noqa: S101 - takes begin with ``begin``
            self._write(replace(self.known, taken=True, restored=restored))

    def forget(self) -> None:
        """The lease is given back, or lost."""
        with self._lock, contextlib.suppress(OSError):
            self.known = None
            self._path.unlink(missing_ok=True)

    def _write(self, known: Remembered) -> None:
        self.known = known
        write_whole(
            self._path,
            dump(
                {
                    "generation": known.generation,
                    "token": known.token,
                    "boot_id": known.boot_id,
                    "sequence": known.sequence,
                    "taken": known.taken,
                    "restored": None if known.restored is None else seal_json(known.restored),
                }
            ),
        )
