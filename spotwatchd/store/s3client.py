"""What the rest of the S3 backend sees of the S3 library: one call, our errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from spotwatchd.store.base import Document, Limits, Piece
from spotwatchd.store.s3http import Address
from spotwatchd.store.s3sign import Keys, Signer


@dataclass(frozen=True)
class Site:
    """Where a bucket is, as the S3 library worked it out from all that configures it.

    Attributes:
        address: where to connect.
        host: the Host header.
        path: what comes before a key: ``/`` or ``/bucket/``.
        signer: for the region whose name the signatures must have.
    """

    address: Address
    host: str
    path: str
    signer: Signer


class S3Caller(Protocol):
    """One request to one bucket, never retried but where it was refused unread."""

    bucket: str
    prefix: str

    def __call__(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """Send a request and return the parsed answer.

        Args:
            operation: as S3 calls it, e.g. ``PutObject``.
            key: the full key, prefix included; "" for requests about the bucket.
            parameters: S3's names for the rest.

        Raises Absent, Conflict, Damaged (wrong digest), StoreDenied, StoreUnavailable.
        """
        ...

    def chunks(self, body: Any, key: str, size: int) -> Iterator[bytes]:
        """The body of a ``GetObject`` answer. Raises StoreUnavailable when it breaks off."""
        ...

    def site(self) -> Site | None:
        """Where bytes may go without the library; None where only it knows the way.

        (A proxy, anonymous requests, another kind of signature.)
        """
        ...

    def keys(self) -> Keys:
        """The credentials, renewed if they are about to expire."""
        ...

    def amend(self, status: int, code: str, date: str, keys: Keys) -> bool:
        """After a refusal: mend the clock or the credentials. Whether to ask again.

        Args:
            status: of the answer.
            code: S3's.
            date: the answer's Date header.
            keys: those that were refused.
        """
        ...


@dataclass(frozen=True)
class Target:
    """A whole object, or (with an upload's token) one part of it.

    Attributes:
        headers: further ones, by HTTP's names. With any, the request is never sent twice.
    """

    key: str
    upload: str = ""
    number: int = 0
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def operation(self) -> str:
        """As S3 calls it."""
        return "UploadPart" if self.upload else "PutObject"


@dataclass(frozen=True)
class Receipt:
    """What the store said of bytes that it took: ``crc64nvme`` None if it keeps none."""

    tag: str
    crc64nvme: int | None


class Carrier(Protocol):
    """Moves bytes to and from objects, one try each. Safe for threads."""

    def put(self, target: Target, crc: int, body: bytes | Piece, limits: Limits) -> Receipt:
        """Send bytes with their CRC64NVME. Raises as S3Caller, and Damaged (too short)."""
        ...

    def get(
        self, key: str, offset: int, size: int, sink: Callable[[memoryview], None], limits: Limits
    ) -> None:
        """Give a range of an object to ``sink``; its memory is reused.

        Raises Absent, Damaged (too short), and as S3Caller.
        """
        ...

    def document(self, key: str, limits: Limits) -> Document:
        """A small object as a whole. Raises Absent, Damaged (too large), and as S3Caller."""
        ...

    def warm(self, count: int, limits: Limits) -> None:
        """Have ``count`` connections and the credentials ready."""
        ...

    def unsent(self) -> int:
        """Bytes that were given away and wait in this machine, as far as one can tell."""
        ...
