"""Reading JSON that somebody else wrote: every field is checked, every refusal names it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from spotwatchd.errors import Damaged, StoreDenied

# The version of every document that does not say otherwise. A reader never guesses at a newer one:
# taking it for garbage would "repair" what a newer spotwatchd wrote.
VERSION = 1
# Ours have five. What can just be read may be too deep to be written again inside of another
# document, and every process between the store and a person would stumble over it.
DEEPEST = 32


class Fields:
    """One JSON object, read field by field.

    Attributes:
        where: the document, and below it the place, for errors.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(f"expected an object, found {_kind(value)}", where=where)
        self.raw: dict[str, Any] = value
        self.where = where

    def bad(self, name: str, wanted: str) -> Damaged:
        """The error for field ``name``; for the caller to raise."""
        found = _kind(self.raw[name]) if name in self.raw else "nothing"
        return Damaged(f"{name}: expected {wanted}, found {found}", where=f"{self.where}: {name}")

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self.raw.get(name, default)
        if not isinstance(value, str):
            raise self.bad(name, "a string")
        return value

    def word(self, name: str, words: tuple[str, ...]) -> str:
        """One of ``words``."""
        value = self.text(name)
        if value not in words:
            raise self.bad(name, "one of " + ", ".join(words))
        return value

    def number(self, name: str, default: int | None = None) -> int:
        """An integer of 0 or more."""
        value = self.raw.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.bad(name, "an integer of 0 or more")
        return value

    def seconds(self, name: str, *, most: float) -> float:
        """A finite number above 0 and at most ``most``."""
        value = self.raw.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.bad(name, "a number of seconds")
        if not math.isfinite(value) or not 0 < value <= most:
            raise self.bad(name, f"seconds above 0 and at most {most:g}")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.raw.get(name)
        if not isinstance(value, bool):
            raise self.bad(name, "true or false")
        return value

    def child(self, name: str) -> Fields:
        """An object."""
        return Fields(self.raw.get(name), f"{self.where}: {name}")

    def children(self, name: str) -> list[Fields]:
        """A list of objects."""
        value = self.raw.get(name)
        if not isinstance(value, list):
            raise self.bad(name, "a list")
        return [Fields(item, f"{self.where}: {name}[{i}]") for i, item in enumerate(value)]

    def mapping_or_none(self, name: str) -> dict[str, Any] | None:
        """An object of any content, or null (or absent)."""
        value = self.raw.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.bad(name, "an object or null")
        return value

    def rest(self, known: frozenset[str]) -> dict[str, Any]:
        """The fields that this version does not know, to be written back as they were."""
        return {name: value for name, value in self.raw.items() if name not in known}


def _kind(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def load(body: bytes, where: str, newest: int = VERSION) -> Fields:
    """Decode a document of version 1 to ``newest``.

    Raises:
        Damaged: not UTF-8, not JSON, not an object, no version.
        StoreDenied: written by a newer version; the words name both.
    """
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not a JSON document: {error}", where=where) from error
    fields = Fields(value, where)
    version = fields.number("version")
    if version == 0:
        raise fields.bad("version", "1 or more")
    if version > newest:
        raise StoreDenied(
            f"written in version {version}; this spotwatchd reads up to {newest}",
            where=where,
            remedy="upgrade spotwatchd on this machine",
        )
    return fields


def is_shallow(value: Any) -> bool:
    """Whether ``value`` is nested at most ``DEEPEST`` levels deep."""
    layer = [value]
    for _ in range(DEEPEST):
        layer = [inner for each in layer for inner in _members(each)]
    return not any(isinstance(each, dict | list) for each in layer)


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def dump(fields: dict[str, Any]) -> bytes:
    """Encode a document, one field a line, so that a person can read and diff it."""
    return json.dumps({"version": VERSION, **fields}, indent=1).encode() + b"\n"
