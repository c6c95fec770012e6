"""What the rest of the S3 backend sees of the S3 library: one call, our errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class S3Caller(Protocol):
    """One request to one bucket, never retried."""

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
