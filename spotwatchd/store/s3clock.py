"""A machine whose clock is wrong: found out from a refusal, put right in each request.

S3 refuses what is more than 15 minutes off. The S3 library corrects that only between its
own retries, which are off here; so its requests are signed again on their way out.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from spotwatchd.store.s3sign import Clock, Keys, Signer, seconds_of

_CODES = {"RequestTimeTooSkewed", "RequestExpired"}
# The limit is 900 s. HEAD has no body to name the reason, so there the answer's date must.
_SUSPECT = 600.0
_SCOPED = "AWS4-HMAC-SHA256 Credential="


def is_skewed(status: int, code: str, date: str, clock: Clock) -> bool:
    """Whether an answer refuses the time of its request."""
    if code in _CODES:
        return True
    theirs = seconds_of(date)
    unnamed = status == 403 and code == "403"
    return unnamed and theirs is not None and abs(theirs - clock.now()) > _SUSPECT


def resign(request: Any, clock: Clock, keys: Keys) -> None:
    """Sign one of the library's prepared requests again, with the store's time."""
    old = _text(request.headers.get("Authorization", ""))
    if not old.startswith(_SCOPED):
        return
    words = dict(word.strip().split("=", 1) for word in old.split(" ", 1)[1].split(","))
    region, service = words["Credential"].split("/")[2:4]
    if service != "s3":
        return
    url = urlsplit(request.url)
    headers = _signed_headers(request, words["SignedHeaders"].split(";"), url.netloc)
    query = parse_qsl(url.query, keep_blank_values=True)
    payload = headers.pop("x-amz-content-sha256")
    signed = Signer(region, clock).sign(request.method, url.path, query, headers, keys, payload)
    for name in ("x-amz-date", "x-amz-security-token", "authorization"):
        if name in signed:
            request.headers[name] = signed[name]  # takes the place of the old one


def _signed_headers(request: Any, names: list[str], host: str) -> dict[str, str]:
    found = {name: _text(request.headers.get(name, "")) for name in names}
    found["host"] = found.get("host") or host
    return {name: value for name, value in found.items() if not name.endswith("-security-token")}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
