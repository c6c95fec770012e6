"""JSON as strict as a boundary needs it: what Python's parser lets through is refused here."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from spotwatchd.control.constraints import LARGEST
from spotwatchd.control.problems import Problem, shown

# No body of ours nests more than a replicator's state does (about 5).
DEEPEST = 16
_NAMES: tuple[tuple[Any, str], ...] = (
    (str, "a string"),
    (bool, "true or false"),  # before int, of which it is a subclass in Python
    (int, "a whole number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "an object"),
    (type(None), "null"),
)


def type_name(value: Any) -> str:
    """What JSON calls the type of ``value``, for a sentence."""
    return next(name for kind, name in _NAMES if isinstance(value, kind))


class _Refused(ValueError):
    """JSON that the grammar allows and we do not."""


def decode(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``; nothing at all counts as ``{}``.

    Raises:
        Problem: not UTF-8, not JSON, not an object, NaN, a repeated key, too deep.
            It never quotes the text: it may hold a secret of the environment.
    """
    try:
        value = json.loads(
            raw.decode("utf-8") or "{}",
            object_pairs_hook=_no_repeats,
            parse_constant=_no_constants,
        )
        _sane(value, "the body", DEEPEST)
    except RecursionError:
        raise _not_json(f"it nests deeper than {DEEPEST}") from None
    except UnicodeDecodeError as error:
        raise _not_json(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}"
        raise _not_json(f"{error.msg} at {at}") from None
    except ValueError as error:
        reason = str(error) if isinstance(error, _Refused) else "a number has too many digits"
        raise _not_json(reason) from None
    if not isinstance(value, dict):
        raise _not_json(f"it is {type_name(value)}, not an object")
    return value


def _not_json(reason: str) -> Problem:
    return Problem(
        400,
        "not-json",
        f"the body is not acceptable JSON: {reason}",
        remedy="send one JSON object in UTF-8; GET /v1/openapi.json describes its fields",
    )


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"key {shown(key)} appears twice")
        found[key] = value
    return found


def _no_constants(word: str) -> NoReturn:
    raise _Refused(f"{word} is not a JSON number")


def _sane(value: Any, place: str, depth: int) -> None:
    """Refuse what Python's parser lets through and later layers choke on."""
    if isinstance(value, str):
        _sane_text(value, place)
    elif isinstance(value, float):
        _check(math.isfinite(value), f"a number in {place} is too large")
    elif isinstance(value, int):
        _check(abs(value) <= LARGEST, f"a number in {place} is too large")
    elif isinstance(value, (dict, list)):
        _check(depth > 0, f"it nests deeper than {DEEPEST}")
        _sane_members(value, place, depth - 1)


def _sane_members(value: dict[str, Any] | list[Any], place: str, depth: int) -> None:
    if isinstance(value, list):
        for each in value:
            _sane(each, place, depth)
        return
    for key, each in value.items():
        _sane_text(key, place)
        _sane(each, f"field {shown(key)}", depth)


def _sane_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refused(f"a string in {place} has half a surrogate pair (not UTF-8)") from None


def _check(fine: bool, reason: str) -> None:
    if not fine:
        raise _Refused(reason)
