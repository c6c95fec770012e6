"""The simplest client that could work: it tries each request again until the deadline.

No pauses that grow, no connections kept, no checks of leases: a request is sent, and when the
answer is no success it is sent again 50 ms later. What this client gets done in time was possible.
It shares nothing with the package but the checksum.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import io
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from spotwatchd.store.checksum import crc64nvme

AGAIN = 0.05  # seconds
PART = 8 << 20


class TooLate(Exception):
    """The deadline passed first."""


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def good(self) -> bool:
        """A success, body included."""
        return self.status in {200, 204} and b"<Error>" not in self.body


class _Lines(io.BufferedReader):
    """Remembers the last line."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class _Whole(http.client.HTTPResponse):
    """The library takes a connection that ends for the end of the headers; this does not."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = self._lines = _Lines(self.fp.detach())

    def begin(self) -> None:
        super().begin()
        if self._lines.last != b"\r\n":
            raise http.client.IncompleteRead(self._lines.last)


@dataclass(frozen=True)
class Account:
    """Where to, and as whom."""

    endpoint: str
    bucket: str
    access: str
    secret: str
    timeout: float


class Oracle:
    """Puts objects until ``deadline`` (time.monotonic()). Raises TooLate."""

    def __init__(self, account: Account, deadline: float) -> None:
        self._account = account
        self._host = urlsplit(account.endpoint).netloc
        self._deadline = deadline

    def put(self, key: str, body: bytes) -> None:
        """Until the store has it."""
        if len(body) > PART:
            self._put_parts(key, body)
            return
        self._until(lambda: self._put(key, body, {}), _has_etag)

    def _put(self, key: str, body: bytes, query: dict[str, str]) -> Reply:
        return self._send("PUT", key, query, body)

    def _put_parts(self, key: str, body: bytes) -> None:
        begun = self._until(
            lambda: self._send("POST", key, {"uploads": ""}, b""),
            lambda reply: b"<UploadId>" in reply.body,
        )
        upload = re.search(rb"<UploadId>([^<]+)", begun.body)
        assert upload
        token = upload[1].decode()
        tags = []
        for number, start in enumerate(range(0, len(body), PART), start=1):
            piece = body[start : start + PART]
            query = {"partNumber": str(number), "uploadId": token}
            sent = self._until(lambda p=piece, q=query: self._put(key, p, q), _has_etag)  # type: ignore[misc] # a loop's values
            tags.append(sent.headers["etag"])
        self._complete(key, token, tags, len(body))

    def _complete(self, key: str, token: str, tags: list[str], size: int) -> None:
        parts = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>"
            for n, tag in enumerate(tags, start=1)
        )
        wish = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        reply = self._until(
            lambda: self._send("POST", key, {"uploadId": token}, wish),
            lambda reply: reply.good or reply.status == 404,
        )
        if reply.status == 404:  # an earlier try was done after all
            self._until(
                lambda: self._send("HEAD", key, {}, b""),
                lambda found: found.headers.get("content-length") == str(size),
            )

    def _until(self, attempt: Callable[[], Reply], enough: Callable[[Reply], bool]) -> Reply:
        while True:
            if time.monotonic() >= self._deadline:
                raise TooLate
            try:
                reply = attempt()
                if enough(reply) and time.monotonic() < self._deadline:
                    return reply
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(AGAIN)

    def _send(self, method: str, key: str, query: dict[str, str], body: bytes) -> Reply:
        path = quote(f"/{self._account.bucket}/{key}")
        asked = "&".join(
            f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(query.items())
        )
        headers = self._signed(method, path, asked, body)
        connection = http.client.HTTPConnection(self._host, timeout=self._account.timeout)
        connection.response_class = _Whole
        try:
            connection.request(method, f"{path}?{asked}" if asked else path, body, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def _signed(self, method: str, path: str, asked: str, body: bytes) -> dict[str, str]:
        """AWS Signature Version 4, the payload unsigned: the checksum protects it."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {
            "host": self._host,
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            "x-amz-date": stamp,
        }
        if method == "PUT":
            summed = crc64nvme(body).to_bytes(8, "big")
            headers["x-amz-checksum-crc64nvme"] = base64.b64encode(summed).decode()
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"{method}\n{path}\n{asked}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
        text = (
            f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        )
        signature = self._key(stamp[:8], text)
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._account.access}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _key(self, day: str, text: str) -> str:
        key = f"AWS4{self._account.secret}".encode()
        for word in (day, "us-east-1", "s3", "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


def _has_etag(reply: Reply) -> bool:
    return reply.good and "etag" in reply.headers
