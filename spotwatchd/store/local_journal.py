"""What is known of the sealed checkpoints on local disk: ``.spotwatch/JOB.json`` beside them.

It must survive a reboot, because it answers one question after it: was this uncommitted
checkpoint made by the last owner of the job (then it may be resumed from), or has somebody
else gone on since (then it is history)? It is a hint for everything else: a damaged or
missing journal costs at most the use of an uncommitted checkpoint.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spotwatchd.core.fields import Fields, dump, load
from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.files import sync_directory

FOLDER = ".spotwatch"


@dataclass(frozen=True)
class Reign:
    """A tenure as head shows it; (0, "") is the time before anybody took the job."""

    generation: int = 0
    token: str = ""


@dataclass(frozen=True)
class Claim:
    """A take that has begun and not ended, maybe over several lives of the replicator.

    Attributes:
        before: the reign that head showed when it began.
        ours: those it has tried to put there since. Nothing was committed under them.
    """

    before: Reign
    ours: tuple[Reign, ...]


@dataclass(frozen=True)
class LocalSeal:
    """A sealed checkpoint on local disk.

    Attributes:
        reign: the tenure under which it was made.
        committed: its id in the store, or None.
    """

    seal: Seal
    reign: Reign
    committed: str | None = None


@dataclass(frozen=True)
class LocalJournal:
    """The whole of it.

    Attributes:
        reign: the last tenure that this directory was used under.
        claim: a take that has begun; None when it ended.
        seals: in the order in which they were made.
    """

    reign: Reign = Reign()
    claim: Claim | None = None
    seals: tuple[LocalSeal, ...] = ()
    path: Path = field(default=Path(), compare=False)

    def find(self, path: str) -> LocalSeal | None:
        """The checkpoint under ``path``."""
        return next((entry for entry in self.seals if entry.seal.path == path), None)

    def with_seal(self, entry: LocalSeal) -> LocalJournal:
        """With ``entry`` as the newest, in place of what had its path."""
        others = tuple(old for old in self.seals if old.seal.path != entry.seal.path)
        return replace(self, seals=(*others, entry))

    def with_commit(self, path: str, checkpoint: str) -> LocalJournal:
        """With the checkpoint under ``path`` committed."""
        return replace(
            self,
            seals=tuple(
                replace(entry, committed=checkpoint) if entry.seal.path == path else entry
                for entry in self.seals
            ),
        )

    def without(self, paths: set[str]) -> LocalJournal:
        """Without the checkpoints under ``paths``."""
        kept = tuple(entry for entry in self.seals if entry.seal.path not in paths)
        return replace(self, seals=kept)

    def claiming(self, ours: Reign, found: Reign) -> LocalJournal:
        """With a take under way that replaces ``found`` by ``ours``.

        A take of ours that died half way changed nothing but head's generation, so what
        counts is the reign before the first of them.
        """
        if self.claim is not None and (found in self.claim.ours or found == self.claim.before):
            claim = replace(self.claim, ours=(*self.claim.ours, ours))
        else:
            claim = Claim(found, (ours,))
        return self if found == ours and self.claim else replace(self, claim=claim)

    def save(self) -> None:
        """Write it durably, whole or not at all. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, _encode(self))


def write_whole(path: Path, body: bytes) -> None:
    """Replace a file durably: old or new after a crash, never half. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def read_journal(directory: Path, job: str) -> LocalJournal:
    """The journal in ``directory``; an empty one when there is none that can be read."""
    path = directory / FOLDER / f"{job}.json"
    try:
        return replace(_decode(load(path.read_bytes(), str(path))), path=path)
    except (OSError, SpotwatchError):
        return LocalJournal(path=path)


def _encode(journal: LocalJournal) -> bytes:
    claim = None
    if journal.claim is not None:
        ours = [_reign_json(each) for each in journal.claim.ours]
        claim = {"before": _reign_json(journal.claim.before), "ours": ours}
    return dump(
        {
            "reign": _reign_json(journal.reign),
            "claim": claim,
            "seals": [
                {
                    **seal_json(entry.seal),
                    "reign": _reign_json(entry.reign),
                    "committed": entry.committed,
                }
                for entry in journal.seals
            ],
        }
    )


def _reign_json(reign: Reign) -> dict[str, Any]:
    return {"generation": reign.generation, "token": reign.token}


def seal_json(seal: Seal) -> dict[str, Any]:
    """A seal as messages carry it."""
    return {"path": seal.path, "step": seal.step, "mark": seal.mark}


def parse_seal(fields: Fields) -> Seal:
    """The inverse of seal_json. Raises Damaged."""
    return Seal(fields.text("path"), fields.number("step"), fields.text("mark", ""))


def _decode(fields: Fields) -> LocalJournal:
    claim = None
    if fields.raw.get("claim") is not None:
        inner = fields.child("claim")
        ours = tuple(_reign(each) for each in inner.children("ours"))
        claim = Claim(_reign(inner.child("before")), ours)
    return LocalJournal(
        reign=_reign(fields.child("reign")),
        claim=claim,
        seals=tuple(_entry(item) for item in fields.children("seals")),
    )


def _reign(fields: Fields) -> Reign:
    return Reign(fields.number("generation"), fields.text("token"))


def _entry(fields: Fields) -> LocalSeal:
    committed = fields.raw.get("committed")
    return LocalSeal(
        parse_seal(fields),
        _reign(fields.child("reign")),
        committed if isinstance(committed, str) else None,
    )


def read_memory(path: Path) -> dict[str, Any]:
    """A small file of a process's own, {} when there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
