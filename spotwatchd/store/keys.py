"""Which keys and prefixes a store accepts: the same for every backend."""

from __future__ import annotations

RESERVED_PREFIX = ".spotwatch-"
"""Names that begin so are the store's own (marker, temporary files, probes).

Not every hidden name: torch's distributed checkpoints contain a file ``.metadata``.
"""

DOCUMENT_LIMIT = 16 << 20
"""Bytes. A thousand checkpoints in head.json are about 150 KB; nobody can make a daemon
swallow more than this by writing to the bucket."""


def is_own_key(key: str) -> bool:
    """Whether a listed key can be one of ours: folders and foreign oddities are left alone."""
    try:
        return bool(check_key(key))
    except ValueError:
        return False


def check_key(key: str) -> str:
    """The key itself. Raises ValueError when it could leave the store or hide in it."""
    parts = key.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise ValueError(f"not a store key (empty, '.' or '..' between slashes): {key!r}")
    if any(part.startswith(RESERVED_PREFIX) for part in parts):
        raise ValueError(f"not a store key (names with {RESERVED_PREFIX!r} are reserved): {key!r}")
    return key


def check_document_key(key: str) -> str:
    """The key itself. Raises ValueError for one that is no document's.

    Documents stand at the top or directly in a job's folder. So a checkpoint's file that
    looks like a numbered version (``index.json.000000001``) is never taken for one.
    """
    check_key(key)
    if key.count("/") > 1 or not key.endswith(".json"):
        raise ValueError(f"not a document's key (NAME.json or JOB/NAME.json): {key!r}")
    return key


def as_folder(prefix: str) -> str:
    """``""``, or the prefix with exactly one slash at its end: ``a`` never matches ``ab/c``."""
    prefix = prefix.strip("/")
    return f"{check_key(prefix)}/" if prefix else ""
