"""The S3 backend: keys and words of the store, said in requests."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from spotwatchd.errors import Conflict, Damaged, StoreDenied, StoreError, StoreUnavailable
from spotwatchd.store.base import Document, Limits, ObjectInfo, Part, Piece
from spotwatchd.store.checksum import CHUNK, crc64nvme, from_base64, to_base64
from spotwatchd.store.growth import MOST
from spotwatchd.store.keys import (
    RESERVED_PREFIX,
    as_folder,
    check_document_key,
    check_key,
    is_own_key,
)
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.retry import Patience
from spotwatchd.store.s3client import Carrier, S3Caller, Target
from spotwatchd.store.s3errors import Absent, unavailable
from spotwatchd.store.s3http import Timeouts
from spotwatchd.store.s3library import Library
from spotwatchd.store.s3parts import Parts
from spotwatchd.store.s3wire import Wire
from spotwatchd.store.underway import Underway

T = TypeVar("T")

# Small requests are answered in tens of milliseconds. Three tries ride out a lost
# connection; whoever called decides what a store that is away means.
_TRIES = 3
_SECONDS = 30.0
_UNDERWAY = Underway()
# 10,000 parts (S3's limit) of a file that grows are 156 GiB; a larger one is sent in larger
# parts after its seal. In two noisy rounds 32 and 64 MiB
# were no clear gain.
PART_SIZE = 16 << 20
_SPARE = 4  # idle connections kept beyond one for each part that may be on its way
_BATCH = 1000  # S3's limit of keys in one DeleteObjects


class S3Backend:
    """See base.Backend. Safe for threads."""

    part_size = PART_SIZE

    def __init__(self, call: S3Caller, options: StoreOptions) -> None:
        self._call = call
        self._prefix = call.prefix
        self._options = options
        self.url = f"s3://{call.bucket}/{call.prefix}".rstrip("/")
        self._parts = Parts(call, self._carrier, self._read_full)
        self._lock = threading.Lock()
        self._made: Carrier | None = None

    def _carrier(self) -> Carrier:
        """Made at its first use: it needs the credentials, and those may need the network."""
        with self._lock:
            if self._made is None:
                site, options = self._call.site(), self._options
                timeouts = Timeouts(options.connect_timeout, options.read_timeout)
                most = max(options.threads, MOST) + _SPARE
                self._made = Wire(self._call, site, timeouts, most) if site else Library(self._call)
            return self._made

    def warm(self, limits: Limits) -> None:
        """Have the credentials and a connection for each thread ready before they are needed.

        Raises StoreUnavailable, StoreDenied; nothing is lost then but the head start.
        """
        self._carrier().warm(self._options.threads, limits)

    def unsent(self) -> int:
        """See base.Backend."""
        return self._made.unsent() if self._made else 0

    def read_document(self, key: str, *, once: bool = False) -> Document | None:
        """See base.Backend. The version's token is the ETag."""
        full = self._full(check_document_key(key))
        try:
            return self._fetch(full) if once else _patiently(lambda: self._fetch(full))
        except Absent:
            return None

    def _fetch(self, key: str) -> Document:
        return self._carrier().document(key, _UNDERWAY)

    def write_document(self, key: str, body: bytes, expected: str | None) -> str:
        """See base.Backend. One request, whatever happens."""
        return self._write(self._full(check_document_key(key)), body, expected)

    def _write(self, key: str, body: bytes, expected: str | None) -> str:
        condition = ("If-None-Match", "*") if expected is None else ("If-Match", expected)
        target = Target(key, headers=(("Content-Type", "application/json"), condition))
        try:
            return self._carrier().put(target, crc64nvme(body), body, _UNDERWAY).tag
        except Absent as error:
            raise Conflict(f"the document is gone: {error.what}", where=error.where) from error
        except Damaged as error:
            # What was summed is what was sent: they changed on the way.
            raise unavailable(error.what, error.where or key) from error

    def begin(self, key: str, limits: Limits) -> str:
        """See base.Backend."""
        return self._parts.begin(self._full(check_key(key)), limits)

    def send_part(self, key: str, upload: str, number: int, piece: Piece, limits: Limits) -> Part:
        """See base.Backend."""
        return self._parts.send_part(self._full(check_key(key)), upload, number, piece, limits)

    def finish(self, key: str, upload: str, parts: Sequence[Part], limits: Limits) -> None:
        """See base.Backend."""
        self._parts.finish(self._full(check_key(key)), upload, parts, limits)

    def abort(self, key: str, upload: str) -> None:
        """See base.Backend."""
        self._parts.abort(self._full(check_key(key)), upload)

    def put_piece(self, key: str, piece: Piece, limits: Limits) -> int:
        """See base.Backend."""
        return self._parts.put_piece(self._full(check_key(key)), piece, limits)

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """See base.Backend."""
        for full, token, began in self._parts.open_uploads(f"{self._prefix}{as_folder(prefix)}"):
            key = full.removeprefix(self._prefix)
            if is_own_key(key):
                yield key, token, began

    def put_bytes(self, key: str, body: bytes, *, only_if_absent: bool = False) -> None:
        """See base.Backend. Repeated only when it is not conditional."""
        full = self._full(check_key(key))
        if only_if_absent:
            self._write(full, body, None)
            return
        checksum = to_base64(crc64nvme(body))
        _patiently(lambda: self._call("PutObject", full, Body=body, ChecksumCRC64NVME=checksum))

    def info(self, key: str) -> ObjectInfo | None:
        """See base.Backend."""
        full = self._full(check_key(key))
        try:
            answer = _patiently(lambda: self._call("HeadObject", full, ChecksumMode="ENABLED"))
        except Absent:
            return None
        stored = answer.get("ChecksumCRC64NVME")
        return ObjectInfo(key, answer["ContentLength"], from_base64(stored) if stored else None)

    def read(self, key: str) -> Iterator[bytes]:
        """See base.Backend. The error comes with the first chunk."""
        try:
            yield from self._read_full(self._full(check_key(key)))
        except Absent:
            raise KeyError(key) from None

    def _read_full(self, key: str) -> Iterator[bytes]:
        """The bytes of one version; a broken connection is taken up where it broke."""
        done, total, etag, tries = 0, 0, "", _TRIES
        while not etag or done < total:
            resume = {"Range": f"bytes={done}-", "IfMatch": etag} if done else {}
            try:
                answer = _patiently(lambda: self._call("GetObject", key, **resume))  # noqa: B023 - called at once
            except Damaged as error:
                # There is nothing behind what came: an answer had promised more.
                raise unavailable("an answer was longer than the object", error.where) from error
            etag, total = answer["ETag"], done + answer["ContentLength"]
            try:
                for chunk in self._call.chunks(answer["Body"], key, CHUNK):
                    done, tries = done + len(chunk), _TRIES
                    yield chunk
            except StoreUnavailable:
                tries -= 1
                if not tries:
                    raise

    def fetch(
        self, key: str, offset: int, size: int, sink: Callable[[memoryview], None], limits: Limits
    ) -> None:
        """See base.Backend."""
        if not size:
            return
        try:
            self._carrier().get(self._full(check_key(key)), offset, size, sink, limits)
        except Absent:
            raise KeyError(key) from None

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """See base.Backend."""
        for page in self._pages(as_folder(prefix), {}):
            for entry in page.get("Contents", []):
                key = entry["Key"].removeprefix(self._prefix)
                if is_own_key(key):
                    yield ObjectInfo(key, entry["Size"])

    def children(self, prefix: str) -> Iterator[str]:
        """See base.Backend."""
        folder = as_folder(prefix)
        for page in self._pages(folder, {"Delimiter": "/"}):
            for entry in page.get("CommonPrefixes", []):
                key = entry["Prefix"].removeprefix(self._prefix).rstrip("/")
                if is_own_key(key):
                    yield key.removeprefix(folder)

    def _pages(self, folder: str, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        parameters = {**parameters, "Prefix": f"{self._prefix}{folder}"}
        while True:
            page = _patiently(lambda: self._call("ListObjectsV2", "", **parameters))
            yield page
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, keys: list[str]) -> None:
        """See base.Backend."""
        full = [self._full(check_key(key)) for key in keys]
        for start in range(0, len(full), _BATCH):
            self._delete_batch(full[start : start + _BATCH])

    def _delete_batch(self, keys: list[str]) -> None:
        """One by one where the server cannot do many, or says that some stayed."""
        left = keys
        if len(keys) > 1:
            with contextlib.suppress(StoreDenied):
                left = _patiently(lambda: self._delete_many(keys))
        for key in left:
            with contextlib.suppress(Absent):
                _patiently(lambda: self._call("DeleteObject", key))  # noqa: B023 - called at once

    def _delete_many(self, keys: list[str]) -> list[str]:
        named = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._call("DeleteObjects", keys[0], Delete=named)
        return [str(error["Key"]) for error in answer.get("Errors", [])]

    def probe(self) -> None:
        """See base.Backend."""
        key = self._full(f"{RESERVED_PREFIX}probe-{uuid.uuid4().hex}.json")
        try:
            self._probe_conditions(key)
            _patiently(lambda: self._fetch(key))
            next(self._pages("", {"MaxKeys": 1}))
        except BaseException:
            with contextlib.suppress(StoreError):
                self._call("DeleteObject", key)
            raise
        _patiently(lambda: self._call("DeleteObject", key))

    def _probe_conditions(self, key: str) -> None:
        first = self._write(key, b"1", None)
        self._must_refuse(key, None)
        self._write(key, b"2", first)
        self._must_refuse(key, first)

    def _must_refuse(self, key: str, stale: str | None) -> None:
        try:
            _patiently(lambda: self._write(key, b"3", stale))
        except Conflict:
            return
        header = "If-None-Match" if stale is None else "If-Match"
        raise StoreDenied(
            f"the server ignores {header}: two machines could own the same job",
            where=f"s3://{self._call.bucket}/{key}",
            remedy="use a server that honours conditional writes (docs/stores.md lists some)",
        )

    def _full(self, key: str) -> str:
        return f"{self._prefix}{key}"


def _patiently(request: Callable[[], T]) -> T:
    return Patience.of(_SECONDS, _TRIES).call(request)
