"""The file that says: this directory is a store, and the disk it is on is mounted.

An unmounted ``/mnt/efs`` is an empty directory on the root disk. Without the marker a
daemon would find no jobs there, start them from nothing, and commit to a disk that dies
with the machine.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from pathlib import Path

from spotwatchd.errors import StoreDenied
from spotwatchd.store import files
from spotwatchd.store.keys import RESERVED_PREFIX

MARKER = f"{RESERVED_PREFIX}store"
VERSION = 1


def require(root: Path, url: str, operation: str) -> None:
    """Raises StoreDenied when the directory has no marker, OSError when nobody can tell."""
    try:
        (root / MARKER).stat()
    except FileNotFoundError:
        raise StoreDenied(
            f"cannot {operation}: {_absence(root)}",
            where=f"{url} (no {root / MARKER})",
            remedy=f"mount the disk; for a new store, once: spotwatch store init {url}",
        ) from None


def _absence(root: Path) -> str:
    if root.is_dir():
        return "the directory is not a store (or its disk is not mounted)"
    return "the directory does not exist (or its disk is not mounted)"


def write(root: Path) -> bool:
    """Make the directory a store. Returns False when it already is one. Raises OSError."""
    body = {
        "version": VERSION,
        "store": str(uuid.uuid4()),
        "created_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }
    data = json.dumps(body).encode() + b"\n"
    with files.temporary(root, root) as (file, temporary):
        files.write_all(file, data)
        files.finish(file, len(data))
        return files.link_new(temporary, root / MARKER)
