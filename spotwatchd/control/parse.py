"""From the bytes of a request to a body, or a Problem that names the field."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any, NoReturn, TypeVar

from spotwatchd.control.bodies import Body
from spotwatchd.control.problems import Problem, shown
from spotwatchd.control.schema import Schema, schema_of
from spotwatchd.control.strictjson import decode, type_name

B = TypeVar("B", bound=Body)

_NAMES = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def read_body(kind: type[B], raw: bytes) -> B:
    """The body of class ``kind`` in ``raw``.

    Raises:
        Problem: 400 for text that is not a JSON object, 422 naming the field otherwise.
    """
    return make_body(kind, decode(raw))


def make_body(kind: type[B], given: dict[str, Any]) -> B:
    """The body of class ``kind`` made of a decoded object. Raises Problem (422)."""
    schema = schema_of(kind)
    require(schema, given)
    arguments = {key: _field(key, value, schema) for key, value in given.items()}
    body = kind(**arguments)
    _check_together(body)
    return body


def require(schema: Schema, given: dict[str, Any]) -> None:
    """Check that ``given`` has the required fields. Raises Problem (422)."""
    for key in schema["required"]:
        if key not in given:
            raise _missing(key, schema)


def _missing(key: str, schema: Schema) -> Problem:
    says = schema["properties"][key].get("description", "a value")
    return Problem(
        422, "field-missing", f"field {key!r} is missing", field=key, remedy=f"add {key}: {says}"
    )


def _field(key: str, value: Any, schema: Schema) -> Any:
    known = schema["properties"]
    if key not in known:
        # Its value stays unsaid: a misspelt "env" would carry the whole environment.
        raise Problem(
            422,
            "field-unknown",
            f"unknown field {shown(key)}",
            field=key[:80],
            remedy=f"known fields: {', '.join(sorted(known))}",
        )
    obey(known[key], value, key)
    return float(value) if _wants_float(known[key]) and value is not None else value


def _wants_float(schema: Schema) -> bool:
    return "number" in _types(schema)


def _check_together(body: Body) -> None:
    wrong = body.contradiction()
    if wrong is not None:
        name, says = wrong
        value = shown(getattr(body, name)) if hasattr(body, name) else None
        raise _invalid(name, says, value)


def _invalid(name: str, says: str, value: str | None) -> Problem:
    got = "" if value is None else f", not {value}"
    return Problem(
        422,
        "field-invalid",
        f"field {name!r} must be {says}{got}",
        field=name,
        value=value,
        remedy=f"send {name} as {says}",
    )


def obey(schema: Schema, value: Any, name: str) -> None:
    """Check ``value``, called ``name``, against ``schema``. Raises Problem (422)."""
    kind = _type_of(schema, value)
    if kind is None:
        raise _wrong_type(schema, value, name)
    if "enum" in schema and value not in schema["enum"]:
        _refuse(schema, value, name)
    if kind == "string":
        _obey_text(schema, value, name)
    elif kind in ("integer", "number"):
        _obey_number(schema, value, name)
    elif kind == "array":
        _obey_list(schema, value, name)
    elif kind == "object":
        _obey_object(schema, value, name)


def _types(schema: Schema) -> list[str]:
    kinds = schema["type"]
    return kinds if isinstance(kinds, list) else [kinds]


def _type_of(schema: Schema, value: Any) -> str | None:
    return next((kind for kind in _types(schema) if _is(kind, value)), None)


def _is(kind: str, value: Any) -> bool:
    if isinstance(value, bool):  # in Python also an int, in JSON not
        return kind == "boolean"
    classes: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "array": list,
        "object": dict,
        "null": type(None),
    }
    return kind in classes and isinstance(value, classes[kind])


def _wrong_type(schema: Schema, value: Any, name: str) -> Problem:
    wanted = " or ".join(_NAMES[kind] for kind in _types(schema))
    says = f"{wanted}, not {type_name(value)}"
    problem = _invalid(name, says, None)
    problem.value = None if schema.get("writeOnly") else shown(value)
    problem.remedy = f"send {name} as {schema.get('description', wanted)}"
    return problem


def _refuse(schema: Schema, value: Any, name: str) -> NoReturn:
    hidden = schema.get("writeOnly", False)
    raise _invalid(name, schema.get("description", "valid"), None if hidden else shown(value))


def _obey_text(schema: Schema, value: str, name: str) -> None:
    too_long = len(value.encode()) > schema.get("maxLength", math.inf)
    pattern = schema.get("pattern")
    if too_long or (pattern and not _whole(pattern).fullmatch(value)):
        _refuse(schema, value, name)


@cache
def _whole(pattern: str) -> re.Pattern[str]:
    # For fullmatch: Python's $ alone would also match before a last newline.
    return re.compile(pattern)


def _obey_number(schema: Schema, value: float, name: str) -> None:
    if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
        _refuse(schema, value, name)


def _obey_list(schema: Schema, value: list[Any], name: str) -> None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        _refuse(schema, value, name)
    for index, each in enumerate(value):
        obey(schema["items"], each, f"{name}[{index}]")


def _obey_object(schema: Schema, value: dict[str, Any], name: str) -> None:
    if len(value) > schema.get("maxProperties", math.inf):
        _refuse(schema, value, name)
    for key, each in value.items():
        # Only up to "=": a client that got it wrong has put NAME=value there.
        member = f"{name}.{key.partition('=')[0][:40]}"
        obey(schema["propertyNames"], key, member)
        obey(schema["additionalProperties"], each, member)
