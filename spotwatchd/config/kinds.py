"""Kinds of values. Each reads a TOML value or the text of an environment variable.

``accept`` takes what ``tomllib`` made of the file, ``parse`` takes text; both return the
value for the Config tree or raise ValueError with a clause that follows "must be",
e.g. "a number of seconds from 1 to 60".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit


class Kind(Protocol):
    """What a setting accepts."""

    @property
    def wanted(self) -> str:
        """What is accepted, as a clause that follows "must be"."""

    def accept(self, value: Any) -> Any:
        """The setting's value for a TOML value. Raises ValueError."""

    def parse(self, text: str) -> Any:
        """The setting's value for an environment variable. Raises ValueError."""


def _bounds(low: float, high: float) -> str:
    return f"from {low:g} to {high:g}"


@dataclass(frozen=True)
class Number:
    """A number between two bounds, both allowed."""

    low: float
    high: float
    unit: str = ""

    @property
    def wanted(self) -> str:
        """See Kind."""
        return f"a number{self.unit and ' of ' + self.unit} {_bounds(self.low, self.high)}"

    def accept(self, value: Any) -> float:
        """See Kind."""
        # bool is an int to Python, and nan compares false with everything.
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and self.low <= value <= self.high:
            return float(value)
        raise ValueError(self.wanted)

    def parse(self, text: str) -> float:
        """See Kind."""
        try:
            return self.accept(float(text))
        except ValueError:
            raise ValueError(self.wanted) from None


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both allowed."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        """See Kind."""
        return f"a whole number {_bounds(self.low, self.high)}"

    def accept(self, value: Any) -> int:
        """See Kind."""
        number = isinstance(value, int) and not isinstance(value, bool)
        if number and self.low <= value <= self.high:
            return int(value)
        raise ValueError(self.wanted)

    def parse(self, text: str) -> int:
        """See Kind."""
        if not re.fullmatch(r"-?\d{1,18}", text.strip()):
            raise ValueError(self.wanted)
        return self.accept(int(text))


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Size:
    """A number of bytes: 50000000, "50MB" (powers of 1000) or "50MiB" (of 1024)."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        """See Kind."""
        return f'bytes, such as 50000000, "50MB" or "50MiB", {_bounds(self.low, self.high)}'

    def accept(self, value: Any) -> int:
        """See Kind."""
        if isinstance(value, str):
            return self.parse(value)
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        ):
            return value
        raise ValueError(self.wanted)

    def parse(self, text: str) -> int:
        """See Kind."""
        match = re.fullmatch(
            r"(\d{1,15}(?:\.\d{1,3})?) ?([KMG]i?)?B?", text.strip(), re.IGNORECASE | re.ASCII
        )
        if match is None:
            raise ValueError(self.wanted)
        return self.accept(int(float(match[1]) * _UNITS[(match[2] or "").lower()]))


@dataclass(frozen=True)
class Switch:
    """True or false."""

    wanted: str = "true or false"

    def accept(self, value: Any) -> bool:
        """See Kind."""
        if isinstance(value, bool):
            return value
        raise ValueError(self.wanted)

    def parse(self, text: str) -> bool:
        """See Kind."""
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        try:
            return words[text.strip().lower()]
        except KeyError:
            raise ValueError(self.wanted) from None


@dataclass(frozen=True)
class Text:
    """A string that passes a check.

    Attributes:
        wanted: the clause.
        check: True for a good one.
        make: turns the string into the setting's value.
    """

    wanted: str
    check: Callable[[str], bool]
    make: Callable[[str], Any] = str

    def accept(self, value: Any) -> Any:
        """See Kind."""
        if not isinstance(value, str) or "\0" in value or not self.check(value):
            raise ValueError(self.wanted)
        return self.make(value)

    def parse(self, text: str) -> Any:
        """See Kind."""
        return self.accept(text)


@dataclass(frozen=True)
class Names:
    """A list of user names, "THEIRS:OURS" for two; in the environment separated by commas."""

    wanted: str = 'a list of user names, e.g. ["ubuntu", "ec2-user:ml"] (environment: ubuntu,ml)'

    def accept(self, value: Any) -> tuple[str, ...]:
        """See Kind."""
        if isinstance(value, list) and all(map(_are_users, value)):
            return tuple(dict.fromkeys(value))
        raise ValueError(self.wanted)

    def parse(self, text: str) -> tuple[str, ...]:
        """See Kind."""
        return self.accept([part.strip() for part in text.split(",") if part.strip()])


@dataclass(frozen=True)
class Mode:
    """Permission bits of a file, "0660" or TOML's 0o660."""

    wanted: str = 'permission bits such as "0660"'

    def accept(self, value: Any) -> int:
        """See Kind."""
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 0o777:
            raise ValueError(self.wanted)
        return value

    def parse(self, text: str) -> int:
        """See Kind."""
        if not re.fullmatch(r"(0o?)?[0-7]{3}", text.strip()):
            raise ValueError(self.wanted)
        return self.accept(int(text, 8))


@dataclass(frozen=True)
class WordOr:
    """One word with a meaning of its own, or a value of another kind."""

    word: str
    other: Kind

    @property
    def wanted(self) -> str:
        """See Kind."""
        return f'"{self.word}" or {self.other.wanted}'

    def accept(self, value: Any) -> Any:
        """See Kind."""
        return self._either(value, self.other.accept)

    def parse(self, text: str) -> Any:
        """See Kind."""
        return self._either(text, self.other.parse)

    def _either(self, value: Any, read: Callable[[Any], Any]) -> Any:
        if value == self.word:
            return self.word
        try:
            return read(value)
        except ValueError:
            raise ValueError(self.wanted) from None


_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?")


def _are_users(entry: Any) -> bool:
    names = entry.split(":") if isinstance(entry, str) else []
    return len(names) in (1, 2) and all(_USER.fullmatch(name) for name in names)


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT_WORDS = ("ipv4", "ipv6", "off")


def _is_store(text: str) -> bool:
    try:
        url = urlsplit(text)
    except ValueError:
        return False
    if url.scheme == "file":
        return url.netloc == "" and url.path.startswith("/")
    return url.scheme == "s3" and _BUCKET.fullmatch(url.netloc) is not None


def _is_http(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:  # a port that is none, or half an IPv6 address
        return False


def _is_endpoint(text: str) -> bool:
    return text in _ENDPOINT_WORDS or _is_http(text)


def one_of(*words: str) -> Text:
    """One of a few words."""
    quoted = " or ".join(f'"{word}"' for word in words)
    return Text(quoted, words.__contains__)


STORE = Text("a store: s3://BUCKET/PREFIX or file:///ABSOLUTE/DIRECTORY (three slashes)", _is_store)
ENDPOINT = Text('"ipv4", "ipv6", "off" or the URL of a metadata service', _is_endpoint)
ABSOLUTE = Text("an absolute path", lambda text: text.startswith("/"), Path)
MACHINE = Text(
    "1 to 128 letters, digits, '.', '_', ':' or '-'",
    lambda text: re.fullmatch(r"[\w.:-]{1,128}", text, re.ASCII) is not None,
)
