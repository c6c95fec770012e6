"""Bytes to and from S3 through the S3 library, where only it knows the way.

Slower than s3wire.py; for proxies, anonymous requests and other kinds of signatures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spotwatchd.store.base import Document, Limits, Piece
from spotwatchd.store.checksum import CHUNK, from_base64, to_base64
from spotwatchd.store.filepart import FilePart
from spotwatchd.store.keys import DOCUMENT_LIMIT
from spotwatchd.store.s3client import Receipt, S3Caller, Target
from spotwatchd.store.s3wire import no_document, too_short


class Library:
    """See s3client.Carrier."""

    def __init__(self, call: S3Caller) -> None:
        self._call = call

    def warm(self, count: int, limits: Limits) -> None:  # noqa: ARG002 - it connects by itself
        """See Carrier."""
        self._call.keys()

    def unsent(self) -> int:
        """See Carrier."""
        return 0

    def put(self, target: Target, crc: int, body: bytes | Piece, limits: Limits) -> Receipt:
        """See Carrier."""
        parameters: dict[str, Any] = {"ChecksumCRC64NVME": to_base64(crc)}
        parameters |= {name.replace("-", ""): value for name, value in target.headers}
        if target.upload:
            parameters |= {"UploadId": target.upload, "PartNumber": target.number}
        if isinstance(body, bytes):
            limits.spend(len(body))
            parameters["Body"] = body
        else:
            parameters["Body"] = FilePart(body, limits)
        answer = self._call(target.operation, target.key, **parameters)
        stored = answer.get("ChecksumCRC64NVME")
        return Receipt(str(answer["ETag"]), from_base64(stored) if stored else None)

    def document(self, key: str, limits: Limits) -> Document:
        """See Carrier."""
        limits.check()
        answer = self._call("GetObject", key)
        if answer["ContentLength"] > DOCUMENT_LIMIT:
            answer["Body"].close()
            raise no_document(answer["ContentLength"], f"s3://{self._call.bucket}/{key}")
        body = b"".join(self._call.chunks(answer["Body"], key, CHUNK))
        return Document(body, str(answer["ETag"]))

    def get(
        self, key: str, offset: int, size: int, sink: Callable[[memoryview], None], limits: Limits
    ) -> None:
        """See Carrier."""
        answer = self._call("GetObject", key, Range=f"bytes={offset}-{offset + size - 1}")
        if answer["ContentLength"] != size:
            answer["Body"].close()
            raise too_short(f"s3://{self._call.bucket}/{key}")
        for chunk in self._call.chunks(answer["Body"], key, CHUNK):
            limits.check()
            sink(memoryview(chunk))
