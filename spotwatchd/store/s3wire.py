"""Bytes to and from S3 over connections of our own (why: docs/transport.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import unescape

from spotwatchd.errors import Damaged, StoreError
from spotwatchd.store.base import Document, Limits, Piece
from spotwatchd.store.checksum import CHUNK, from_base64, to_base64
from spotwatchd.store.keys import DOCUMENT_LIMIT
from spotwatchd.store.s3client import Receipt, S3Caller, Site, Target
from spotwatchd.store.s3errors import Answer as Refusal
from spotwatchd.store.s3errors import meaning, unavailable, untrusted
from spotwatchd.store.s3http import Answer, Broken, Connection, Short, Timeouts, Untrusted
from spotwatchd.store.s3pool import Pool
from spotwatchd.store.s3sign import Keys, Query, encoded_path, encoded_query

_CHECKSUM = "x-amz-checksum-crc64nvme"
# The clock may have to be mended, and then the credentials.
_AMENDS = 3
Sink = Callable[[memoryview], None]


@dataclass(frozen=True)
class _Request:
    """What is asked, before it is signed."""

    operation: str
    method: str
    key: str
    query: Query
    headers: Mapping[str, str]
    body: bytes | Piece = b""
    once: bool = False


class Wire:
    """See s3client.Carrier."""

    def __init__(self, call: S3Caller, site: Site, timeouts: Timeouts, connections: int) -> None:
        self._call = call
        self._site = site
        self._pool = Pool(site.address, timeouts, connections)

    def warm(self, count: int, limits: Limits) -> None:
        """See Carrier."""
        self._call.keys()
        try:
            self._pool.warm(count, limits)
        except Broken as error:
            raise self._failure(error, "connect", "") from error

    def unsent(self) -> int:
        """See Carrier."""
        return self._pool.unsent()

    def put(self, target: Target, crc: int, body: bytes | Piece, limits: Limits) -> Receipt:
        """See Carrier."""
        size = len(body) if isinstance(body, bytes) else body.size
        headers = {"content-length": str(size), _CHECKSUM: to_base64(crc)}
        headers |= {name.lower(): value for name, value in target.headers}
        query: Query = ()
        if target.upload:
            query = (("partNumber", str(target.number)), ("uploadId", target.upload))
        once = bool(target.headers)
        request = _Request(target.operation, "PUT", target.key, query, headers, body, once)
        answer = self._exchange(request, _Taker(limits), limits)
        tag = answer.headers.get("etag")
        if not tag or b"<Error" in answer.body:
            # A success that says "Error" inside, or that no S3 wrote: it is not known what it did.
            raise self._refusal(request, 500, *_said(answer))
        stored = answer.headers.get(_CHECKSUM)
        return Receipt(tag, from_base64(stored) if stored else None)

    def get(self, key: str, offset: int, size: int, sink: Sink, limits: Limits) -> None:
        """See Carrier."""
        headers = {"range": f"bytes={offset}-{offset + size - 1}"}
        request = _Request("GetObject", "GET", key, (), headers)
        self._exchange(request, _Streamer(limits, offset, size, sink, self._where(key)), limits)

    def document(self, key: str, limits: Limits) -> Document:
        """See Carrier."""
        request = _Request("GetObject", "GET", key, (), {})
        answer = self._exchange(request, _Reader(limits, self._where(key)), limits)
        tag = answer.headers.get("etag")
        if not tag:
            raise unavailable("GetObject answered without an ETag", self._where(key))
        return Document(answer.body, tag)

    # ------------------------------------------------------------------ one request

    def _exchange(self, request: _Request, taker: _Taker, limits: Limits) -> Answer:
        """The answer, if it is a success. Raises what a refusal means."""
        for _ in range(_AMENDS):
            keys = self._call.keys()
            answer = self._once(request, keys, taker, limits)
            if answer.status < 300:
                return answer
            code, message = _said(answer)
            date = answer.headers.get("date", "")
            if not self._call.amend(answer.status, code, date, keys):
                break
        raise self._refusal(request, answer.status, code, message)

    def _once(self, request: _Request, keys: Keys, taker: _Taker, limits: Limits) -> Answer:
        def send(connection: Connection, head: bytes, limits: Limits) -> None:
            _send(connection, head, request.body, limits)

        try:
            head = self._head(request, keys)
            with self._pool.request(head, send, limits, once=request.once) as (connection, answer):
                if answer.status < 300:
                    taker.take(connection, answer)
                else:
                    _read_refusal(connection, answer, limits)
        except Short:
            raise shorter(request.body, request.key) from None
        except Broken as error:
            raise self._failure(error, request.operation, request.key) from error
        return answer

    def _head(self, request: _Request, keys: Keys) -> bytes:
        path = self._site.path + encoded_path(request.key)
        headers = {"host": self._site.host, **request.headers}
        signed = self._site.signer.sign(request.method, path, request.query, headers, keys)
        target = f"{path}?{encoded_query(request.query)}" if request.query else path
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        return f"{request.method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    # ------------------------------------------------------------------ what went wrong

    def _where(self, key: str) -> str:
        return f"s3://{self._call.bucket}/{key}"

    def _failure(self, error: Broken, operation: str, key: str) -> StoreError:
        if isinstance(error, Untrusted):
            return untrusted(operation, self._where(key))
        return unavailable(f"{operation} got no answer: {error}", self._where(key))

    def _refusal(self, request: _Request, status: int, code: str, message: str) -> StoreError:
        call = self._call
        return meaning(
            Refusal(request.operation, call.bucket, request.key, call.prefix, status, code, message)
        )


class _Taker:
    """Reads the body of a success: a short one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def take(self, connection: Connection, answer: Answer) -> None:
        connection.read_body(answer, self._limits)


class _Reader(_Taker):
    """Reads the body of a success: a document."""

    def __init__(self, limits: Limits, where: str) -> None:
        super().__init__(limits)
        self._where = where

    def take(self, connection: Connection, answer: Answer) -> None:
        length = int(answer.headers.get("content-length", "0"))
        if length > DOCUMENT_LIMIT:
            raise no_document(length, self._where)
        if not length and "chunked" not in answer.headers.get("transfer-encoding", ""):
            # None of ours is empty: this is an answer whose length nobody knows.
            raise Broken("the answer has no body")
        connection.read_body(answer, self._limits)


class _Streamer(_Taker):
    """Reads the body of a success: a range of an object, into a sink."""

    def __init__(self, limits: Limits, offset: int, size: int, sink: Sink, where: str) -> None:
        super().__init__(limits)
        self._offset = offset
        self._size = size
        self._sink = sink
        self._where = where

    def take(self, connection: Connection, answer: Answer) -> None:
        # A server that knows no ranges answers 200 with the whole object.
        skip = 0 if answer.status == 206 else self._offset
        length = int(answer.headers.get("content-length", "0"))
        if length < skip + self._size:
            raise too_short(self._where)
        buffer = memoryview(bytearray(min(CHUNK, max(self._size, 1))))
        connection.stream(skip, lambda _: None, buffer, self._limits)
        connection.stream(self._size, self._sink, buffer, self._limits)
        connection.done(answer, whole=length == skip + self._size)


def _send(connection: Connection, head: bytes, body: bytes | Piece, limits: Limits) -> None:
    if isinstance(body, bytes):
        limits.spend(len(body))
        connection.send(head + body, limits)
    else:
        connection.send(head, limits)
        connection.send_file(body.file, body.offset, body.size, limits)


def _read_refusal(connection: Connection, answer: Answer, limits: Limits) -> None:
    # Which refusal it is stands in the body: a 403 may pass by itself, or never.
    try:
        connection.read_body(answer, limits)
    except Broken as error:
        raise Broken(f"it began with {answer.status} and broke off: {error}") from error


def _said(answer: Answer) -> tuple[str, str]:
    """S3's code and message."""
    text = answer.body.decode("utf-8", "replace")
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    return (
        code[1] if code else str(answer.status),
        unescape(message[1], {"&quot;": '"', "&apos;": "'"}) if message else "",
    )


def shorter(body: bytes | Piece, key: str) -> Damaged:
    """The local file ends before the piece that should have been sent does."""
    path = "" if isinstance(body, bytes) else f"{body.path} for "
    return Damaged(
        "cannot put: the file became shorter while it was stored",
        where=f"{path}{key}",
        remedy="checkpoints must not change after their rename: save to a new name",
    )


def no_document(size: int, where: str) -> Damaged:
    """Something lies where a document should be."""
    return Damaged(
        f"a document of {size} bytes is no document of ours",
        where=where,
        remedy=f"documents have at most {DOCUMENT_LIMIT} bytes: look who wrote it",
    )


def too_short(where: str) -> Damaged:
    """The object ends before the range that was asked for does."""
    return Damaged("the object is shorter than it should be", where=where)
