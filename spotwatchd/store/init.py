"""``spotwatch store init URL``: say once, as a person, that this is a store."""

from __future__ import annotations

from pathlib import Path

from spotwatchd.errors import StoreDenied
from spotwatchd.store import marker
from spotwatchd.store.directory import DirectoryBackend
from spotwatchd.store.open import StoreOptions, directory_of, is_directory_url, open_backend
from spotwatchd.store.oserrors import store_errors


def init_store(url: str, options: StoreOptions | None = None) -> str:
    """Make the store usable and prove that it is. Returns one line for people.

    Raises ConfigError, StoreDenied, StoreUnavailable.
    """
    new = _init_directory(directory_of(url), url) if is_directory_url(url) else True
    backend = open_backend(url, options)
    backend.probe()
    if isinstance(backend, DirectoryBackend):
        return f"{backend.url} {'is now' if new else 'already was'} a store"
    return f"{backend.url} honours conditional writes and lets us read, write, list and delete"


def _init_directory(root: Path, url: str) -> bool:
    with store_errors("init", url, marker.MARKER, root):
        if not root.exists():
            raise StoreDenied(
                "cannot init: the directory does not exist",
                where=f"{url} ({root})",
                remedy=f"mount the disk; if it is mounted: mkdir {root}",
            )
        return marker.write(root)
