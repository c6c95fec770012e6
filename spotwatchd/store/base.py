"""What a store must be able to do: two backends implement it, one protocol uses it.

Keys are relative to the store's URL, with "/" between parts. Two kinds of things live
in a store: *documents* (small JSON, changed only by conditional writes) and *objects*
(checkpoint files under unique keys, written once, read back verified).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spotwatchd.errors import StoreUnavailable


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


@dataclass(frozen=True)
class Piece:
    """Bytes of an open local file: what one request carries.

    Attributes:
        file: a descriptor; only positioned reads (pread, sendfile with an offset) use it, so
            many threads may.
        path: for messages.
        offset, size: bytes.
    """

    file: int
    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class Part:
    """A piece that the store has: what it takes to complete the object.

    Attributes:
        number: from 1; every part but the last has the backend's ``part_size``.
        tag: the store's word for it (S3: the ETag).
    """

    number: int
    size: int
    crc64nvme: int
    tag: str


class UploadGone(StoreUnavailable):
    """There is no such upload any more (somebody aborted it): begin anew."""


class Limits(Protocol):
    """How long and how fast one operation may go on. See patience.Patience."""

    def check(self) -> None:
        """Raise Cancelled, OutOfTime or LeaseLost when it is time to stop."""

    def left(self, most: float) -> float:
        """Seconds that one request may take."""

    def spend(self, size: int) -> None:
        """Wait until ``size`` more bytes may be sent, then ``check``."""


class Backend(Protocol):
    """A store. Methods block and may be called from several threads at once.

    Raises, everywhere: StoreUnavailable (no answer, 5xx, time-out: outcome unknown),
    StoreDenied (permission, missing bucket, read-only, full), both naming the operation,
    the key and the remedy.
    """

    url: str

    def unsent(self) -> int:
        """Bytes of bodies that ``Limits.spend`` was told of and that wait in this machine yet."""

    def read_document(self, key: str, *, once: bool = False) -> Document | None:
        """The newest version, or None. ``once``: a failure is not tried again inside."""

    def write_document(self, key: str, body: bytes, expected: str | None) -> str:
        """Write if the newest version is ``expected`` (None: if there is none).

        Never retried inside. Returns the new version's token. Raises Conflict when another
        writer came first; StoreUnavailable when nobody knows. In both cases the caller
        reads back and looks for its own nonce or id.
        """

    # An object in the making: parts in any order, from many threads, nothing visible before
    # ``finish``. Each of these is one try: whoever schedules them (shipping.py) tries again.

    part_size: int

    def begin(self, key: str, limits: Limits) -> str:
        """Start an upload under a unique key; returns its token."""

    def send_part(self, key: str, upload: str, number: int, piece: Piece, limits: Limits) -> Part:
        """Send a part; again replaces it. The checksum is of the bytes as they were sent.

        Raises Damaged when the file is shorter than the piece; StoreUnavailable also when the
        bytes changed between being summed and being sent; UploadGone.
        """

    def finish(self, key: str, upload: str, parts: Sequence[Part], limits: Limits) -> None:
        """Make the object of the parts 1 to N; returns only when the store has verified it.

        An object that is there already with this size and checksum is a success: the answer
        of an earlier try may have been lost. Raises UploadGone.
        """

    def abort(self, key: str, upload: str) -> None:
        """Give the upload up and free what it holds; one that is unknown is no error."""

    def put_piece(self, key: str, piece: Piece, limits: Limits) -> int:
        """A small object in one request; returns its CRC64NVME, verified by the store."""

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """Uploads begun below ``prefix`` and neither finished nor aborted.

        Yields (key, token, seconds since the epoch when it began, by the store's clock).
        """

    def fetch(
        self, key: str, offset: int, size: int, sink: Callable[[memoryview], None], limits: Limits
    ) -> None:
        """Give the bytes from ``offset`` on to ``sink`` in order; their memory is reused.

        One try. Raises KeyError when there is no such object, Damaged when it is too short,
        StoreUnavailable when the answer breaks off (the sink has what came before).
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
