"""JSON Schema: read a schema, check it, and check values against it, always offline."""

from __future__ import annotations

import functools
import json
import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import llm

from . import patterns
from .errors import RequestError, SchemaMiss
from .schema_drafts import inner, modern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jsonschema.exceptions import ValidationError

# Longest message about a value, in characters: it quotes the value.
_LONGEST = 200


class Mismatch(NamedTuple):
    """Where a value does not fit its schema, as a JSON path such as "$.age", and why."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"does not fit the schema at {self.path}: {self.message}"


def parse(text: str) -> dict[str, Any]:
    """Return the schema that a text holds, as JSON or in llm's concise form.

    Raises ValueError if it is neither.
    """
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{"):
            raise ValueError(f"not JSON: {error}") from None
        return llm.schema_dsl(text)
    if not isinstance(schema, dict):
        raise ValueError(f"found {text}, expected a JSON object")
    return schema


def check(schema: Mapping[str, Any]) -> None:
    """Raise ValueError if this is not a valid JSON Schema, or one that can't be used."""
    _validator(_dump(schema))


def mismatch(value: Any, schema: Mapping[str, Any]) -> Mismatch | None:
    """Return what keeps a value from fitting the schema, or None.

    `format` is an annotation: any text fits it. Raises ValueError if the schema is not valid or
    refers to something that is not in it.
    """
    from jsonschema.exceptions import best_match

    error = best_match(iter(_errors(value, schema)))
    return error and Mismatch(error.json_path, error.message[:_LONGEST])


def wrong_members(value: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    """Return the names of an object's members whose values don't fit the schema.

    Raises ValueError like `mismatch`.
    """
    paths = [error.absolute_path for error in _errors(dict(value), schema)]
    return {str(path[0]) for path in paths if path}


def _errors(value: Any, schema: Mapping[str, Any]) -> list[ValidationError]:
    """Return everything that keeps a value from fitting the schema. Raises ValueError."""
    validator = _validator(_dump(schema))
    try:
        return list(validator.iter_errors(value))
    except RecursionError:
        raise ValueError("not usable: it, or the value, is nested too deeply") from None
    except re.error as problem:
        raise ValueError(f"not usable: it has an invalid regular expression: {problem}") from None


def validate(text: str, schema: Mapping[str, Any]) -> None:
    """Raise SchemaMiss if an answer is not JSON that fits the schema.

    If a key occurs twice in an object, the last value counts, as it does for readers of JSON.
    Raises RequestError if the schema can't be used.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SchemaMiss(f"the answer is not JSON: {error}") from None
    try:
        problem = mismatch(value, schema)
    except ValueError as error:
        raise RequestError(f"the schema is {error}") from None
    if problem:
        raise SchemaMiss(f"the answer {problem}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a value of JSON")


def _dump(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(schema)
    except TypeError as error:
        raise ValueError(f"not a valid JSON Schema: {error}") from None
    except RecursionError:
        raise ValueError("not usable: it is nested too deeply") from None


@functools.lru_cache(maxsize=64)
def _validator(text: str) -> Any:
    """Return what checks values against a schema. Raises ValueError if the schema is not valid."""
    from jsonschema import FormatChecker, SchemaError
    from referencing import Registry

    schema = modern(json.loads(text))
    validator = _validator_class()
    try:
        # Patterns are checked below: this format is that of Python's `re`.
        validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        raise ValueError(f"not a valid JSON Schema: {error.message}") from None
    except RecursionError:
        raise ValueError("not usable: it is nested too deeply") from None
    for each in inner(schema):
        if isinstance(each, dict):
            for pattern in (each.get("pattern"), *each.get("patternProperties", ())):
                _check_pattern(pattern)
    # With a registry of its own, a validator never fetches a reference from the network.
    return validator(schema, registry=Registry())


def _check_pattern(pattern: str | None) -> None:
    try:
        if pattern is not None:
            patterns.check(pattern)
    except ValueError as error:
        raise ValueError(f"not usable: {error}") from None


def _matches(pattern: str, text: str) -> bool:
    try:
        return patterns.search(pattern, text)
    except ValueError as error:
        raise ValueError(f"not usable: {error}") from None


@functools.cache
def _validator_class() -> Any:
    """Return jsonschema's validator, with exact decimals and the patterns of ECMA-262."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    keywords: dict[str, Any] = {
        "additionalProperties": _additional_properties,
        "multipleOf": _multiple_of,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
    }
    return extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]  # stub


def _multiple_of(validator: Any, factor: Any, value: Any, _: Any) -> Iterator[Any]:
    """Yield an error unless a number is a multiple as written: binary 4.35 % 0.01 is not 0."""
    from jsonschema import ValidationError

    if not validator.is_type(value, "number"):
        return
    if not math.isfinite(value) or Fraction(repr(value)) % Fraction(repr(factor)):
        yield ValidationError(f"{value!r} is not a multiple of {factor}")


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(value, "string") and not _matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, schemas: Any, value: Any, _: Any) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    for pattern, schema in schemas.items():
        for name, inner_value in value.items():
            if _matches(pattern, name):
                yield from validator.descend(inner_value, schema, name, pattern)


def _additional_properties(validator: Any, schema: Any, value: Any, parent: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not validator.is_type(value, "object"):
        return
    declared = parent.get("properties", {})
    for name in value:
        if name in declared:
            continue
        if any(_matches(pattern, name) for pattern in parent.get("patternProperties", ())):
            continue
        if schema is False:
            yield ValidationError(f"{name!r} is not among its properties")
        else:
            yield from validator.descend(value[name], schema, name)
