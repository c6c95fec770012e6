"""From the annotations of a body to a JSON Schema (2020-12)."""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from spotwatchd.control.bodies import Body
from spotwatchd.control.constraints import Rule

Schema = dict[str, Any]
_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


_made: dict[type[Body], Schema] = {}


def schema_of(body: type[Body]) -> Schema:
    """The schema of an object with the fields of ``body`` and no others (made once)."""
    if body not in _made:
        _made[body] = _object(body)
    return _made[body]


def _object(body: type[Body]) -> Schema:
    hints = get_type_hints(body, include_extras=True)
    return {
        "type": "object",
        "description": (body.__doc__ or "").partition("\n")[0],
        "properties": {each.name: _with_default(each, hints[each.name]) for each in fields(body)},
        "required": [each.name for each in fields(body) if _required(each)],
        "additionalProperties": False,
    }


def _required(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _with_default(each: Field[Any], hint: Any) -> Schema:
    schema = value_schema(hint)
    if each.default_factory is not MISSING:
        schema["default"] = each.default_factory()
    elif each.default is not MISSING:
        schema["default"] = each.default
    return schema


def value_schema(hint: Any) -> Schema:
    """The schema of one annotation. Raises TypeError for one that no body should use."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _annotated(hint)
    if origin in (Union, types.UnionType):
        return _nullable(hint)
    if origin is list:
        return {"type": "array", "items": value_schema(get_args(hint)[0])}
    if origin is dict:
        names, values = get_args(hint)
        return {
            "type": "object",
            "propertyNames": value_schema(names),
            "additionalProperties": value_schema(values),
        }
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    raise TypeError(f"a body cannot hold {hint!r}")


def _annotated(hint: Any) -> Schema:
    inner, *notes = get_args(hint)
    schema = value_schema(inner)
    for rule in notes:
        if isinstance(rule, Rule):
            schema |= {**rule.keywords, "description": rule.says}
            # The standard's word for a value that is taken and never given back.
            schema |= {"writeOnly": True} if rule.secret else {}
    return schema


def _nullable(hint: Any) -> Schema:
    inner = [each for each in get_args(hint) if each is not type(None)]
    if len(inner) != 1:
        raise TypeError(f"a body cannot hold {hint!r}")
    schema = value_schema(inner[0])
    schema["type"] = [schema["type"], "null"]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema
