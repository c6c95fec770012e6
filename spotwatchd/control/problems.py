"""Refusals as problem+json (RFC 9457): what is wrong, with which field, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from spotwatchd.errors import (
    ConfigError,
    Conflict,
    JobError,
    LeaseLost,
    SpotwatchError,
    StoreError,
)

CONTENT_TYPE = "application/problem+json"
# Enough to recognise a value in one's own request; short enough for a log line.
SHOWN_CHARACTERS = 80
_USERINFO = re.compile(r"//[^/@\s]*@")

# The first class that fits decides; what is not listed answers 503.
_STATUS: tuple[tuple[type[SpotwatchError], int, str], ...] = (
    (Conflict, 409, "conflict"),
    (LeaseLost, 409, "lease-lost"),
    (JobError, 422, "job"),
    (ConfigError, 422, "setting"),
    (StoreError, 503, "store"),
)


class Problem(SpotwatchError):
    """A refusal with its HTTP status.

    Attributes:
        status: the HTTP status code.
        kind: last part of the problem's ``type``, stable: programs may look at it.
        field: the field of the body that is wrong, e.g. ``env.PATH`` or ``argv[2]``; or None.
        value: its value as ``shown`` renders it; None when there is none or it is secret.
        headers: further HTTP headers of the answer.
    """

    def __init__(  # noqa: PLR0913 - the members of a problem, passed by name
        self,
        status: int,
        kind: str,
        what: str,
        *,
        where: str = "",
        remedy: str = "",
        field: str | None = None,
        value: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.status = status
        self.kind = kind
        self.field = field
        self.value = value
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The members of RFC 9457 and ours: ``field``, ``value``, ``where``, ``remedy``."""
        told = {"field": self.field, "value": self.value}
        return {
            "type": f"urn:spotwatchd:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.what,
            **{key: text for key, text in told.items() if text is not None},
            "where": self.where,
            "remedy": self.remedy,
        }

    def encoded(self) -> bytes:
        """The document as a line of JSON."""
        return json.dumps(self.document()).encode() + b"\n"


def shown(value: Any) -> str:
    """A value for a person: JSON text, cut, passwords in URLs blotted out."""
    text = _USERINFO.sub("//***@", json.dumps(value, default=str))
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def problem_of(error: SpotwatchError, *, where: str) -> Problem:
    """The problem that answers ``error``; ``where`` fills in when the error names no place."""
    if isinstance(error, Problem):
        error.where = error.where or where
        return error
    fitting = ((status, word) for kind, status, word in _STATUS if isinstance(error, kind))
    status, word = next(fitting, (503, "unavailable"))
    return Problem(status, word, error.what, where=error.where or where, remedy=error.remedy)


def bug(number: str, *, where: str) -> Problem:
    """The answer to a request that met a defect of ours; the log has the rest under ``number``."""
    return Problem(
        500,
        "bug",
        f"spotwatchd met a defect of its own, number {number}",
        where=where,
        remedy=f"the daemon goes on; please report it with the log: "
        f"journalctl -u spotwatchd | grep -A 30 {number}",
    )
