"""JSON Schema: read a schema, check it, and check values against it, always offline."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import llm

from .errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Raise ValueError if this is not a valid JSON Schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(dict(schema))
    except SchemaError as error:
        raise ValueError(f"not a valid JSON Schema: {error.message}") from None


def mismatch(value: Any, schema: Mapping[str, Any]) -> Mismatch | None:
    """Return what keeps a value from fitting the schema, or None.

    Raises ValueError if the schema is not valid or refers to something that is not in it.
    """
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    check(schema)
    # With a registry of its own, a validator never fetches a reference from the network.
    validator = validator_for(schema)(schema, registry=Registry())
    try:
        error = best_match(validator.iter_errors(value))
    except Unresolvable as problem:
        raise ValueError(f"not usable: it refers to {problem.ref}, which is not in it") from None
    except re.error as problem:
        raise ValueError(f"not usable: it has an invalid regular expression: {problem}") from None
    return error and Mismatch(error.json_path, error.message[:_LONGEST])


def validate(text: str, schema: Mapping[str, Any]) -> None:
    """Raise RequestError if an answer is not JSON that fits the schema."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the answer is not JSON: {error}") from None
    try:
        problem = mismatch(value, schema)
    except ValueError as error:
        raise RequestError(f"the schema is {error}") from None
    if problem:
        raise RequestError(f"the answer {problem}")
