"""What a network does to requests: a function of time, operation, name and attempt.

A weather is a list of spells. Whether a request is hit depends on the seconds since the weather
began, on what the request does to which name, and on how often the same client tried that before:
never on the order of requests. Two clients that meet the same weather meet the same difficulties.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal[
    # The store never sees the request.
    "refuse500",
    "refuse502",
    "slowdown",  # 503 SlowDown
    "hasty503",  # 503 before the body was read, and the connection is closed
    "expired",  # 403 ExpiredToken
    "skewed",  # 403 RequestTimeTooSkewed, the Date of the answer an hour off
    "error200",  # 200 with <Error> in the body
    "close",  # closed without a word
    "reset",  # reset before the body is read
    "reset_mid",  # reset in the middle of the body
    "stall",  # accepted, never read, never answered
    "stall_body",  # half of the body is read, then nothing
    # The store does it, and the answer suffers.
    "lost",  # reset instead of the answer
    "mute",  # no answer
    "error500",  # 500 although it was done
    "error200_done",  # the same with 200 and <Error>
    "half",  # Content-Length promises more than there is
    "cut",  # half of the answer, then closed
    "stall_answer",  # half of the answer, then nothing
    "drip",  # the answer, a few bytes at a time
    # The request suffers on its way, or is late.
    "delay",  # it arrives ``value`` seconds later
    "slow",  # its body is read at ``value`` bytes per second
    "late",  # reset at once, yet the store gets it ``value`` seconds later
    "garble",  # one bit, another one each time, of the body flips on the way to the store
    "garble_answer",  # one bit, another one each time, of the object's bytes flips on the way back
    # Nobody listens: connections are refused, those that stand are reset.
    "gone",
]
Operation = Literal[
    "put", "part", "begin", "complete", "abort", "get", "head", "list", "delete", "other"
]
WITH_BODY = frozenset({"put", "part"})
# Where S3 may say 200 before it knows, and where a proxy might.
MAY_LIE = frozenset({"put", "part", "complete"})


@dataclass(frozen=True)
class Target:
    """What a request wants.

    Attributes:
        operation: in few words.
        sort: head, lease, spec, manifest, mark, data, or "" for requests about the bucket.
        name: of the object, without what differs between clients (the checkpoint's id).
        part: of a multipart upload, or 0.
    """

    operation: Operation
    sort: str
    name: str
    part: int = 0


@dataclass(frozen=True)
class Spell:
    """One difficulty.

    Attributes:
        kind: see Kind.
        begin, end: seconds since the weather began.
        operations: only these; empty: all.
        sorts: only these; empty: all.
        chance: of each attempt within the spell to be hit.
        attempts: only the first so many attempts of each request; 0: all.
        value: seconds or bytes per second, see Kind.
    """

    kind: Kind
    begin: float
    end: float
    operations: frozenset[str] = frozenset()
    sorts: frozenset[str] = frozenset()
    chance: float = 1.0
    attempts: int = 0
    value: float = 0.0

    def concerns(self, age: float, target: Target, attempt: int) -> bool:
        """Whether a request is in its reach, chance left aside."""
        return (
            self.kind != "gone"
            and self.begin <= age < self.end
            and (not self.operations or target.operation in self.operations)
            and (not self.sorts or target.sort in self.sorts)
            and (not self.attempts or attempt <= self.attempts)
            and _possible(self.kind, target)
        )


@dataclass(frozen=True)
class Weather:
    """Spells, the first that hits wins, and the seed of their chances."""

    seed: int
    spells: tuple[Spell, ...]

    def spell(self, age: float, target: Target, attempt: int) -> Spell | None:
        """What happens to a request; ``attempt`` counts from 1."""
        for number, spell in enumerate(self.spells):
            if spell.concerns(age, target, attempt) and self._hits(number, spell, target, attempt):
                return spell
        return None

    def _hits(self, number: int, spell: Spell, target: Target, attempt: int) -> bool:
        said = f"{self.seed} {number} {target} {attempt}".encode()
        draw = int.from_bytes(hashlib.blake2b(said, digest_size=8).digest()) / 2**64
        return draw < spell.chance

    @property
    def absences(self) -> list[tuple[float, float]]:
        """When nobody listens."""
        return sorted((s.begin, s.end) for s in self.spells if s.kind == "gone")


CALM = Weather(0, ())


def _possible(kind: Kind, target: Target) -> bool:
    if kind in {"garble", "slow", "reset_mid", "stall_body"}:
        return target.operation in WITH_BODY
    if kind in {"error200", "error200_done"}:
        return target.operation in MAY_LIE
    if kind == "garble_answer":
        return target.operation == "get" and target.sort == "data"
    return True


def classify(method: str, url: str) -> Target:
    """What a request wants, by its first line. Buckets stand in the path."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    _, _, key = unquote(parts.path).lstrip("/").partition("/")
    number = int(query.get("partNumber", ["0"])[0])
    return Target(_operation(method, query, key), _sort(key), _name(key), number)


def _operation(method: str, query: dict[str, list[str]], key: str) -> Operation:  # noqa: PLR0911 - a table
    if method == "PUT":
        return "part" if "partNumber" in query else "put"
    if method == "POST":
        if "uploads" in query:
            return "begin"
        return "complete" if "uploadId" in query else "delete"
    if method == "DELETE":
        return "abort" if "uploadId" in query else "delete"
    if method == "HEAD":
        return "head"
    if method == "GET":
        return "get" if key and "uploads" not in query and "uploadId" not in query else "list"
    return "other"


def _sort(key: str) -> str:
    name = key.rpartition("/")[2]
    documents = {"head.json": "head", "lease.json": "lease", "spec.json": "spec"}
    if not name:
        return ""
    if name in documents and "/checkpoints/" not in key:
        return documents[name]
    return {"MANIFEST.json": "manifest", ".removed": "mark"}.get(name, "data")


def _name(key: str) -> str:
    inside = re.search(r"/checkpoints/[^/]+/(.+)", key)
    return inside[1] if inside else key.rpartition("/")[2]
