"""``spotwatch store init URL``: say once, as a person, that this is a store."""

from __future__ import annotations

from pathlib import Path

from spotwatchd.errors import StoreDenied
from spotwatchd.store import marker
from spotwatchd.store.directory import DirectoryBackend
from spotwatchd.store.disks import mortal_disk
from spotwatchd.store.open import StoreOptions, directory_of, is_directory_url, open_backend
from spotwatchd.store.oserrors import store_errors


def init_store(url: str, options: StoreOptions | None = None, *, any_disk: bool = False) -> str:
    """Make the store usable and prove that it is. Returns one line for people.

    ``any_disk`` allows a directory on a disk that dies with the machine (for trying out).
    Raises ConfigError, StoreDenied, StoreUnavailable.
    """
    new = True
    if is_directory_url(url):
        new = _init_directory(directory_of(url), url, any_disk=any_disk)
    backend = open_backend(url, options)
    backend.probe()
    if isinstance(backend, DirectoryBackend):
        return f"{backend.url} {'is now' if new else 'already was'} a store"
    return f"{backend.url} honours conditional writes and lets us read, write, list and delete"


def _init_directory(root: Path, url: str, *, any_disk: bool) -> bool:
    with store_errors("init", url, marker.MARKER, root):
        if not root.exists():
            raise StoreDenied(
                "cannot init: the directory does not exist",
                where=f"{url} ({root})",
                remedy=f"mount the disk; if it is mounted: mkdir {root}",
            )
        if not any_disk:
            _refuse_mortal_disk(root, url)
        return marker.write(root)


def _refuse_mortal_disk(root: Path, url: str) -> None:
    kind = mortal_disk(root)
    if kind:
        raise StoreDenied(
            f"cannot init: the directory is on {kind}, which dies with the machine",
            where=f"{url} ({root})",
            remedy="use EFS, FSx, NFS or an EBS volume that stays; or, to try out, --any-disk",
        )
