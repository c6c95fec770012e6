"""What the proxy of the storms says in the store's name."""

from __future__ import annotations

import time
from email.utils import formatdate

from tests.servers.http1 import Answer, made


def refusal(kind: str | None) -> Answer | None:
    """What is said instead of asking the store; None: nothing."""
    if kind == "refuse502":
        return made(502, b"<html>Bad Gateway</html>")
    if kind == "skewed":
        wrong = formatdate(time.time() + 3600, usegmt=True)
        return error(403, "RequestTimeTooSkewed", Date=wrong)
    plain = {
        "refuse500": (500, "InternalError"),
        "slowdown": (503, "SlowDown"),
        "expired": (403, "ExpiredToken"),
        "error200": (200, "InternalError"),
    }
    return error(*plain[kind]) if kind in plain else None


def error(status: int, code: str, **headers: str) -> Answer:
    """As S3 says it."""
    text = f"<Error><Code>{code}</Code><Message>weather</Message></Error>"
    return made(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode(), **headers)


def bodiless(answer: Answer, method: str) -> bytes:
    """On the wire; nothing follows the head of an answer to HEAD."""
    return answer.head.raw if method == "HEAD" else answer.encode()
