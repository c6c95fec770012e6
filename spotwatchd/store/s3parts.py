"""Objects that the store itself has verified, in one request or in parts.

Each part travels with its own checksum, which the server enforces; completing names the
size and the checksum of the whole. Afterwards a HEAD must agree; where a server keeps no
checksum, the object is read back.

Never conditional: keys are unique per attempt, and conditional completion is not atomic
on every server.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from spotwatchd.errors import Conflict, Damaged, StoreError
from spotwatchd.store.base import Limits, Part, Piece, UploadGone
from spotwatchd.store.checksum import (
    crc64nvme,
    crc64nvme_of_chunks,
    crc64nvme_of_range,
    from_base64,
    joined,
    to_base64,
)
from spotwatchd.store.oserrors import local_errors
from spotwatchd.store.s3client import Carrier, S3Caller, Target
from spotwatchd.store.s3errors import Absent, unavailable
from spotwatchd.store.s3wire import shorter


class Parts:
    """Safe for threads. Keys are full keys; each method is one try."""

    def __init__(
        self,
        call: S3Caller,
        carrier: Callable[[], Carrier],
        read: Callable[[str], Iterator[bytes]],
    ) -> None:
        self._call = call
        self._carrier = carrier
        self._read = read

    def begin(self, key: str, limits: Limits) -> str:
        """See base.Backend."""
        limits.check()
        answer = self._call(
            "CreateMultipartUpload", key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
        )
        return str(answer["UploadId"])

    def send_part(self, key: str, upload: str, number: int, piece: Piece, limits: Limits) -> Part:
        """See base.Backend."""
        with local_errors(piece.path, key):
            done, crc = crc64nvme_of_range(piece.file, piece.offset, piece.size, limits.check)
        if done != piece.size:
            raise shorter(piece, key)
        tag = self._put(Target(key, upload, number), crc, piece, limits)[0]
        return Part(number, piece.size, crc, tag)

    def put_piece(self, key: str, piece: Piece, limits: Limits) -> int:
        """See base.Backend. Held in memory: the bytes summed are the bytes sent."""
        with local_errors(piece.path, key):
            body = os.pread(piece.file, piece.size, piece.offset)
        if len(body) != piece.size:
            raise shorter(piece, key)
        crc = crc64nvme(body)
        _, verified = self._put(Target(key), crc, body, limits)
        if not verified:
            self._verify(key, piece.size, crc)
        return crc

    def _put(
        self, target: Target, crc: int, body: bytes | Piece, limits: Limits
    ) -> tuple[str, bool]:
        """The tag, and whether the store said that it has compared the checksum."""
        try:
            receipt = self._carrier().put(target, crc, body, limits)
        except Absent as error:
            raise UploadGone(error.what, where=error.where) from error
        except (Damaged, Conflict) as error:
            if isinstance(error, Damaged) and error.remedy:
                raise  # our own file's fault
            # The bytes changed on their way, or between being summed and being sent.
            raise unavailable(error.what, error.where) from error
        if receipt.crc64nvme not in {None, crc}:
            raise unavailable("the store has summed other bytes than were sent", target.key)
        return receipt.tag, receipt.crc64nvme == crc

    def finish(self, key: str, upload: str, parts: Sequence[Part], limits: Limits) -> None:
        """See base.Backend."""
        limits.check()
        size, crc = joined((part.size, part.crc64nvme) for part in parts)
        try:
            self._complete(key, upload, parts, size, crc)
        except (StoreError, Absent) as error:
            # The answer to this request, or to the one before it, may have been lost.
            if not self._agrees(key, size, crc):
                raise _of_completion(error) from error
            return
        self._verify(key, size, crc)

    def _complete(self, key: str, upload: str, parts: Sequence[Part], size: int, crc: int) -> None:
        named = [
            {
                "PartNumber": part.number,
                "ETag": part.tag,
                "ChecksumCRC64NVME": to_base64(part.crc64nvme),
            }
            for part in parts
        ]
        self._call(
            "CompleteMultipartUpload",
            key,
            UploadId=upload,
            MultipartUpload={"Parts": named},
            ChecksumType="FULL_OBJECT",
            ChecksumCRC64NVME=to_base64(crc),
            MpuObjectSize=size,
        )

    def _verify(self, key: str, size: int, crc: int) -> None:
        if not self._agrees(key, size, crc):
            where = f"s3://{self._call.bucket}/{key}"
            raise unavailable("the store holds other bytes than were sent", where)

    def _agrees(self, key: str, size: int, crc: int) -> bool:
        """Whether the store has this object, by its own account or by its bytes."""
        try:
            answer = self._call("HeadObject", key, ChecksumMode="ENABLED")
        except Absent:
            return False
        if answer["ContentLength"] != size:
            return False
        if stored := answer.get("ChecksumCRC64NVME"):
            return from_base64(stored) == crc
        return crc64nvme_of_chunks(self._read(key)) == (size, crc)

    def abort(self, key: str, upload: str) -> None:
        """See base.Backend."""
        with contextlib.suppress(Absent):
            self._call("AbortMultipartUpload", key, UploadId=upload)

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """See base.Backend."""
        parameters: dict[str, Any] = {"Prefix": prefix}
        while True:
            page = self._call("ListMultipartUploads", "", **parameters)
            for entry in page.get("Uploads", []):
                yield entry["Key"], entry["UploadId"], entry["Initiated"].timestamp()
            if not page.get("IsTruncated"):
                return
            parameters["KeyMarker"] = page["NextKeyMarker"]
            parameters["UploadIdMarker"] = page["NextUploadIdMarker"]


def _of_completion(error: StoreError) -> StoreError:
    """What a completion that failed means to whoever holds the parts."""
    if isinstance(error, Absent | Conflict | Damaged) or "InvalidPart" in error.what:
        # The upload is gone, or what it holds is not what we sent: only a new one helps.
        return UploadGone(error.what, where=error.where, remedy=error.remedy)
    return error
