"""What a store must be able to do: two backends implement it, one protocol uses it.

Keys are relative to the store's URL, with "/" between parts. Two kinds of things live
in a store: *documents* (small JSON, changed only by conditional writes) and *objects*
(checkpoint files under unique keys, written once, read back verified).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Document:
    """A document and the token that a conditional write must name."""

    body: bytes
    version: str


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says about an object.

    Attributes:
        key: relative to the store's URL.
        size: bytes.
        crc64nvme: the store's own checksum of the whole object, or None if it keeps none.
    """

    key: str
    size: int
    crc64nvme: int | None = None


class Backend(Protocol):
    """A store. Methods block and may be called from several threads at once.

    Raises, everywhere: StoreUnavailable (no answer, 5xx, time-out: outcome unknown),
    StoreDenied (permission, missing bucket, read-only, full), both naming the operation,
    the key and the remedy.
    """

    url: str

    def read_document(self, key: str) -> Document | None:
        """The newest version, or None."""

    def write_document(self, key: str, body: bytes, expected: str | None) -> str:
        """Write if the newest version is ``expected`` (None: if there is none).

        Never retried inside. Returns the new version's token. Raises Conflict when another
        writer came first; StoreUnavailable when nobody knows. In both cases the caller
        reads back and looks for its own nonce or id.
        """

    def put(self, key: str, path: Path, size: int, crc64nvme: int, *, timeout: float) -> None:
        """Upload a file under a unique key; returns only when the store has verified it.

        Raises Damaged when the local bytes no longer have this size and checksum.
        """

    def put_bytes(self, key: str, body: bytes, *, only_if_absent: bool = False) -> None:
        """Upload a small object. Raises Conflict if it exists and ``only_if_absent``."""

    def info(self, key: str) -> ObjectInfo | None:
        """Size and checksum, or None when there is no such object."""

    def read(self, key: str) -> Iterator[bytes]:
        """The object's bytes in chunks. Raises KeyError when there is none."""

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below ``prefix``, documents' inner versions left out."""

    def children(self, prefix: str) -> Iterator[str]:
        """The names one level below ``prefix`` (``""``: the jobs)."""

    def delete(self, keys: list[str]) -> None:
        """Delete; absent ones are no error."""

    def probe(self) -> None:
        """Prove that conditional writes are honoured and permissions suffice.

        Raises StoreDenied naming the missing permission, or saying that the server
        ignores conditions and so cannot hold leases.
        """
