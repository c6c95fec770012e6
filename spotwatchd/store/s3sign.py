"""AWS Signature Version 4, for the requests that carry bytes.

Written from "Signature Calculations for the Authorization Header" in the S3 API reference.
The S3 library's own signer takes longer than sending a small file does; this one keeps the
day's signing key and leaves the bytes unsigned: their checksum is a signed header, and the
store compares it with what arrived.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Keys:
    """Credentials as they are now."""

    access: str
    secret: str
    token: str | None = None


class Clock:
    """The store's time: this machine's, corrected by what the store said of it.

    S3 refuses a request whose time is more than 15 minutes off.
    """

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.offset

    def learn(self, date: str) -> bool:
        """Take over an answer's Date header. Returns whether it was one."""
        theirs = seconds_of(date)
        if theirs is None:
            return False
        self.offset = theirs - time.time()
        return True


def seconds_of(date: str) -> float | None:
    """A Date header in seconds since the epoch."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None


class Signer:
    """Signs for one region. Safe for threads.

    Attributes:
        region: as the credential scope names it.
        clock: whose time the signatures carry.
    """

    def __init__(self, region: str, clock: Clock) -> None:
        self.region = region
        self.clock = clock
        self._lock = threading.Lock()
        self._cached: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def sign(  # noqa: PLR0913, PLR0917 - a request is these six things
        self,
        method: str,
        path: str,
        query: Query,
        headers: Mapping[str, str],
        keys: Keys,
        payload: str = UNSIGNED,
    ) -> dict[str, str]:
        """``headers`` with those that S3 wants to see added.

        Args:
            method: in capitals.
            path: as it is sent: encoded (see encoded_path).
            query: names and values, not encoded.
            headers: lower-case names; ``host`` among them. All are signed.
            keys: who signs.
            payload: the body's SHA-256 in hex, or UNSIGNED.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.clock.now()))
        signed = {**headers, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in names)
        asked = f"{method}\n{path}\n{encoded_query(query)}\n{lines}\n{listed}\n{payload}"
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(asked.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        signature = _hmac(self._key(stamp[:8], keys.secret), text).hex()
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={keys.access}/{scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        return signed

    def _key(self, day: str, secret: str) -> bytes:
        wanted = (day, secret)
        with self._lock:
            if self._cached[0] != wanted:
                key = f"AWS4{secret}".encode()
                for word in (day, self.region, "s3", "aws4_request"):
                    key = _hmac(key, word)
                self._cached = (wanted, key)
            return self._cached[1]


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def encoded_path(key: str) -> str:
    """A key as it stands in a URL: S3 encodes once and normalises nothing."""
    return quote(key, safe="/-_.~")


def encoded_query(query: Query) -> str:
    """A query string, sorted as it is signed."""
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
