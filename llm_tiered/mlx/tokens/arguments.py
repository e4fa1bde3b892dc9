"""The arguments that a model wrote → values of the types that the tool's schema allows."""

from __future__ import annotations

import ast
import json
import math
from typing import TYPE_CHECKING, Any

from ...json_schema import wrong_members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What models write for values that JSON spells true, false and null.
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_WORDS = {"yes": True, "on": True, "1": True, "no": False, "off": False, "0": False, "": None}


def typed(arguments: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the types that a tool's schema allows.

    A text such as 5, null or [1, 2] may be a value or a string. It is a value wherever the schema
    allows that value, else a string. If neither fits, what looks like an array or an object becomes
    one, so that the error names what is wrong inside.
    """
    readings = {name: _readings(text) for name, text in arguments.items()}
    first = {name: next(options) for name, options in readings.items()}
    values = dict(first)
    while wrong := _wrong(values, schema) & readings.keys():
        for name in wrong:
            try:
                values[name] = next(readings[name])
            except StopIteration:
                is_nested = isinstance(first[name], (dict, list))
                values[name] = first[name] if is_nested else arguments[name]
                del readings[name]
    return values


def mended(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, with what models often get wrong put right.

    Where the schema allows no string, one becomes what it stands for: models write numbers and
    lists in quotes, and leave the quotes out of a number that is to be a string. Where it allows no
    fractions, 5.0 becomes 5, which Python distinguishes. And where null does not fit, an optional
    argument is left out.
    """
    wrong = _wrong(arguments, schema)
    strings = {name: arguments[name] for name in wrong if isinstance(arguments.get(name), str)}
    values = {**arguments, **typed(strings, schema)}
    for name, value in values.items():
        if isinstance(value, float) and value.is_integer():
            others = [_wrong({**values, name: value + half}, schema) for half in (-0.5, 0.5)]
            values[name] = int(value) if all(name in each for each in others) else value
    for name in _wrong(values, schema):
        if type(values.get(name)) in (int, float):
            quoted = {**values, name: json.dumps(values[name])}
            values = values if name in _wrong(quoted, schema) else quoted
        is_nothing = str(values.get(name)).strip().lower() in ("", "null", "none")
        if is_nothing and name not in schema.get("required", ()):
            values.pop(name, None)
    return values


def _wrong(values: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    try:
        return wrong_members(values, schema)
    except ValueError:
        # The tool's own schema is wrong, so there is nothing to go by.
        return set()


def _readings(text: str) -> Iterator[Any]:
    """Yield what a text may stand for, the most literal value first."""
    bare = text.strip()
    yield from _json_values(bare)
    yield text
    yield from _loose_values(bare)
    yield bare


def _json_values(text: str) -> Iterator[Any]:
    """Yield the value other than a string that a text holds as JSON, if any."""
    if text.lower() in _CONSTANTS:
        yield _CONSTANTS[text.lower()]
        return
    try:
        value = read_json(text)
    except ValueError:
        return
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        # 5.0 is an integer in JSON Schema, but not for a Python function.
        yield int(value)
    if not isinstance(value, str):
        yield value


def _loose_values(text: str) -> Iterator[Any]:
    """Yield the values that a text holds in a form that other languages have."""
    if text.lower() in _WORDS:
        yield _WORDS[text.lower()]
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if math.isfinite(value):
            yield value
    try:
        # By way of JSON, which has no tuples and no keys other than strings.
        yield json.loads(json.dumps(ast.literal_eval(text)))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return


def read_json(text: str) -> Any:
    """Return the value of a JSON text, whose strings may contain raw line breaks.

    Raises ValueError if it is not JSON.
    """
    try:
        return json.loads(text, strict=False, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def refuse_constant(constant: str) -> Any:
    """Raise ValueError for NaN and the infinities, which Python's parser accepts as JSON."""
    raise ValueError(f"{constant} is not JSON")
