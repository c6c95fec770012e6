"""MANIFEST.json: what a checkpoint in the store consists of.

The store is not trusted: garbage raises Damaged with what and where, a higher version is
refused by name (StoreDenied), unknown fields are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from spotwatchd.core.fields import VERSION, Fields, dump, load
from spotwatchd.core.ids import CheckpointId, check_job, read_id
from spotwatchd.errors import Damaged

MANIFEST = "MANIFEST.json"
# Marks a checkpoint that is being deleted; store/sweep.py tells why it must exist.
REMOVED = ".removed"
# Version 2: some file is an object of an earlier checkpoint. A reader that only knows version
# 1 would look for it in the wrong place and call the checkpoint damaged, so it must refuse.
NEWEST_VERSION = 2

# What no key may contain: names of the store's own (store/keys.py).
_STORES_OWN = ".spotwatch-"
_CRC = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True)
class StoredFile:
    """A file of a checkpoint; ``path`` has been checked to stay below its directory.

    Attributes:
        held_by: the earlier checkpoint whose object under the same path it is, because the
            file had not changed; None: it is this checkpoint's own. Never a chain: that
            checkpoint really has the bytes, whatever its manifest says or said.
    """

    path: str
    size: int
    crc64nvme: int
    held_by: CheckpointId | None = None

    def encode(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        entry = {"path": self.path, "size": self.size, "crc64nvme": f"{self.crc64nvme:016x}"}
        return entry if self.held_by is None else {**entry, "in": str(self.held_by)}


@dataclass(frozen=True)
class Manifest:
    """MANIFEST.json: written after every byte of the checkpoint was acknowledged.

    Attributes:
        form: "directory" (files below step-.../) or "file" (one file that matched the job's
            checkpoint_glob, its path relative to the checkpoint directory).
    """

    job: str
    run_id: str
    id: CheckpointId
    cause: str
    written_at: str
    files: tuple[StoredFile, ...]
    form: str = "directory"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def holder(self, entry: StoredFile) -> CheckpointId:
        """The checkpoint below which the store has the bytes of ``entry``."""
        return self.id if entry.held_by is None else entry.held_by

    @property
    def references(self) -> frozenset[tuple[CheckpointId, str]]:
        """The objects of earlier checkpoints that it needs: checkpoint and path of each."""
        return frozenset((f.held_by, f.path) for f in self.files if f.held_by is not None)

    def encode(self) -> bytes:
        """As stored."""
        return dump(
            {
                "version": NEWEST_VERSION if self.references else VERSION,
                "job": self.job,
                "run_id": self.run_id,
                "id": str(self.id),
                "generation": self.id.generation,
                "sequence": self.id.sequence,
                "step": self.id.step,
                "cause": self.cause,
                "written_at": self.written_at,
                "form": self.form,
                "files": [entry.encode() for entry in self.files],
            }
        )


def parse_manifest(body: bytes, job: str, checkpoint: CheckpointId, where: str) -> Manifest:
    """Read the manifest of ``checkpoint``. Raises Damaged, StoreDenied."""
    fields = load(body, where, NEWEST_VERSION)
    check_job(fields, job)
    if read_id(fields) != checkpoint:
        raise fields.bad("id", str(checkpoint))
    files = tuple(_file(item, checkpoint) for item in fields.children("files"))
    _check_paths([entry.path for entry in files], fields)
    form = fields.text("form", "directory")
    if form not in ("directory", "file") or (form == "file" and len(files) != 1):
        raise fields.bad("form", '"directory", or "file" with one file')
    return Manifest(
        job=job,
        run_id=fields.text("run_id"),
        id=checkpoint,
        cause=fields.text("cause", ""),
        written_at=fields.text("written_at", ""),
        files=files,
        form=form,
    )


def _file(fields: Fields, checkpoint: CheckpointId) -> StoredFile:
    crc = fields.text("crc64nvme")
    if not _CRC.fullmatch(crc):
        raise fields.bad("crc64nvme", "16 hexadecimal digits")
    path = fields.text("path")
    if not is_inside(path):
        raise fields.bad("path", "a relative path that stays in its directory")
    return StoredFile(path, fields.number("size"), int(crc, 16), _held_by(fields, checkpoint))


def _held_by(fields: Fields, checkpoint: CheckpointId) -> CheckpointId | None:
    if fields.raw.get("in") is None:
        return None
    found = CheckpointId.find(fields.text("in"))
    if found is None or found >= checkpoint:
        raise fields.bad("in", f"GENERATION-SEQUENCE-STEP of a checkpoint before {checkpoint}")
    return found


def is_inside(path: str) -> bool:
    """Whether ``path`` is plain and relative: no "..", no empty part, no NUL, a key S3 takes."""
    parts = path.split("/")
    return (
        "\0" not in path
        and all(part not in ("", ".", "..") for part in parts)
        and parts[0] not in (MANIFEST, REMOVED)
        and not any(part.startswith(_STORES_OWN) for part in parts)
        and _encodes(path)
        # NAME_MAX of Linux filesystems, and what is left of S3's 1,024 bytes for a key.
        and all(len(part.encode()) <= 255 for part in parts)
        and len(path.encode()) <= 800
    )


def _encodes(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_paths(paths: list[str], fields: Fields) -> None:
    taken = set(paths)
    above = {path[:i] for path in paths for i, letter in enumerate(path) if letter == "/"}
    if len(taken) != len(paths) or taken & above:
        raise Damaged(
            "files: one path twice, or a file that is also a directory", where=fields.where
        )
