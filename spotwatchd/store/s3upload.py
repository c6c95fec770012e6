"""Uploads that the store itself has verified.

A small file is one PutObject with our CRC64NVME, which the server enforces. A large one
goes up in parts, several at once, each with its own checksum; completing it names the
size and the checksum of the whole. Afterwards a HEAD must agree; where a server keeps no
checksum, the object is read back.

Never conditional: keys are unique per attempt, and conditional completion is not atomic
on every server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotwatchd.errors import Conflict, Damaged, StoreDenied, StoreError, StoreUnavailable
from spotwatchd.store.checksum import (
    crc64nvme,
    crc64nvme_of_chunks,
    from_base64,
    to_base64,
)
from spotwatchd.store.filepart import Part
from spotwatchd.store.oserrors import local_chunks, local_errors
from spotwatchd.store.retry import Patience
from spotwatchd.store.s3client import S3Caller
from spotwatchd.store.s3errors import Absent, unavailable

MIB = 1 << 20
# One request instead of four, held in memory so that the bytes checked are the bytes sent.
# The same threshold as the AWS tools.
SINGLE_PUT = 8 * MIB
# Measured: 64 MiB x 4 threads was the fastest setting of the library (1.93 s for 2 GiB
# against 2.54 s with its defaults). Smaller files are cut so that each thread has a part.
PART = 64 * MIB
# S3's limits: 10,000 parts of at least 5 MiB.
MAX_PARTS = 10_000


@dataclass(frozen=True)
class Upload:
    """A local file, and what it is to be in the store."""

    path: Path
    key: str
    size: int
    crc: int


class Uploader:
    """Uploads files; may be used from several threads at once."""

    def __init__(
        self, call: S3Caller, read: Callable[[str], Iterator[bytes]], threads: int
    ) -> None:
        self._call = call
        self._read = read
        self._threads = threads

    def put(self, upload: Upload, patience: Patience) -> None:
        """Upload and verify. Raises Damaged, StoreDenied, StoreUnavailable."""
        try:
            self._send(upload, patience)
        except (Damaged, Conflict, Absent) as error:
            # The server refused the checksum or the upload vanished: is it our file?
            _check_local(upload)
            raise unavailable(error.what, error.where or upload.key) from error

    def _send(self, upload: Upload, patience: Patience) -> None:
        if upload.size <= SINGLE_PUT:
            body = _whole(upload)
            answer = patience.call(lambda: self._put_single(upload, body))
            if answer.get("ChecksumCRC64NVME") == to_base64(upload.crc):
                return
        else:
            self._put_parts(upload, patience)
        self._verify(upload, patience)

    def _put_single(self, upload: Upload, body: bytes) -> dict[str, Any]:
        checksum = to_base64(upload.crc)
        return self._call("PutObject", upload.key, Body=body, ChecksumCRC64NVME=checksum)

    def _put_parts(self, upload: Upload, patience: Patience) -> None:
        upload_id = patience.call(lambda: self._create(upload))
        try:
            parts = self._send_parts(upload, upload_id, patience)
            patience.call(lambda: self._complete(upload, upload_id, parts))
        except BaseException:
            # One try: what stays behind is the lifecycle rule's (docs/stores.md).
            with contextlib.suppress(StoreError):
                self._call("AbortMultipartUpload", upload.key, UploadId=upload_id)
            raise

    def _create(self, upload: Upload) -> str:
        answer = self._call(
            "CreateMultipartUpload",
            upload.key,
            ChecksumAlgorithm="CRC64NVME",
            ChecksumType="FULL_OBJECT",
        )
        return str(answer["UploadId"])

    def _send_parts(
        self, upload: Upload, upload_id: str, patience: Patience
    ) -> list[dict[str, Any]]:
        step = part_size(upload.size, self._threads)
        shared = Patience(patience.deadline)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="part") as pool:
            futures = [
                pool.submit(self._send_part, upload, upload_id, shared, number, offset, step)
                for number, offset in enumerate(range(0, upload.size, step), start=1)
            ]
            try:
                return _results(futures)
            finally:
                shared.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _send_part(  # noqa: PLR0913, PLR0917 - a part is these six things
        self,
        upload: Upload,
        upload_id: str,
        patience: Patience,
        number: int,
        offset: int,
        step: int,
    ) -> dict[str, Any]:
        length = min(step, upload.size - offset)
        with local_errors(upload.path, upload.key):
            file = upload.path.open("rb", buffering=0)
        with file:
            part = Part(file, offset, length, patience)
            return patience.call(lambda: self._send_once(upload, upload_id, number, part))

    def _send_once(self, upload: Upload, upload_id: str, number: int, part: Part) -> dict[str, Any]:
        part.seek(0)
        checksum = to_base64(part.checksum())
        answer = self._call(
            "UploadPart",
            upload.key,
            UploadId=upload_id,
            PartNumber=number,
            Body=part,
            ChecksumCRC64NVME=checksum,
        )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC64NVME": checksum}

    def _complete(self, upload: Upload, upload_id: str, parts: list[dict[str, Any]]) -> None:
        try:
            self._call(
                "CompleteMultipartUpload",
                upload.key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                ChecksumType="FULL_OBJECT",
                ChecksumCRC64NVME=to_base64(upload.crc),
                MpuObjectSize=upload.size,
            )
        except (Absent, StoreUnavailable):
            # The answer to this request, or to the one before it, may have been lost.
            if not self._agrees(upload):
                raise
        except StoreDenied:
            # Servers also answer "invalid request" when sizes or checksums differ.
            _check_local(upload)
            raise

    def _verify(self, upload: Upload, patience: Patience) -> None:
        if patience.call(lambda: self._agrees(upload)):
            return
        raise Damaged(
            "the store holds other bytes than were sent",
            where=f"s3://{self._call.bucket}/{upload.key}",
        )

    def _agrees(self, upload: Upload) -> bool:
        """Whether the store has this object, by its own account or by its bytes."""
        try:
            answer = self._call("HeadObject", upload.key, ChecksumMode="ENABLED")
        except Absent:
            return False
        if answer["ContentLength"] != upload.size:
            return False
        if stored := answer.get("ChecksumCRC64NVME"):
            return from_base64(stored) == upload.crc
        return crc64nvme_of_chunks(self._read(upload.key)) == (upload.size, upload.crc)


def part_size(size: int, threads: int) -> int:
    """How many bytes each part has: S3's limits kept, every thread busy."""
    shared = -(-size // threads)
    return max(min(PART, max(shared, SINGLE_PUT)), -(-size // MAX_PARTS))


def _results(futures: list[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        if error := future.exception():
            raise error
    return [future.result() for future in futures]


def _whole(upload: Upload) -> bytes:
    body = b"".join(local_chunks(upload.path, upload.key))
    _compare(upload, len(body), crc64nvme(body))
    return body


def _check_local(upload: Upload) -> None:
    size, crc = crc64nvme_of_chunks(local_chunks(upload.path, upload.key))
    _compare(upload, size, crc)


def _compare(upload: Upload, size: int, crc: int) -> None:
    if (size, crc) != (upload.size, upload.crc):
        raise Damaged(
            f"cannot put: the file changed while it was stored (size and CRC64NVME were "
            f"{upload.size} {upload.crc:016x}, are {size} {crc:016x})",
            where=f"{upload.path} for {upload.key}",
            remedy="checkpoints must not change after their rename: save to a new name",
        )
