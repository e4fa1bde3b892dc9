"""JSON Schema, offline."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_tiered.errors import RequestError
from llm_tiered.json_schema import check, mismatch, parse, validate

AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
ELSEWHERE = {"$ref": "https://example.com/schema.json"}


@pytest.mark.parametrize("text", [json.dumps(AGE), "age int", "\n age int\n"])
def test_a_schema_is_read_as_json_or_in_the_concise_form(text: str) -> None:
    """Both ways to write a schema give the same schema."""
    assert parse(text) == AGE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ("{" * 100_000, "not JSON: "),
        ("[1, 2]", r"found \[1, 2\], expected a JSON object"),
        ("age text", "unknown type 'text'"),
    ],
)
def test_a_damaged_schema_is_refused(text: str, message: str) -> None:
    """A text that is neither a JSON object nor the concise form is an error."""
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_wrong_schema_is_refused() -> None:
    """A schema that breaks the rules of JSON Schema is an error with the reason."""
    check(AGE)
    with pytest.raises(ValueError, match="not a valid JSON Schema: 'int' is not valid"):
        check({"type": "int"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"age": 3}, None),
        ({"age": "3"}, "does not fit the schema at $.age: '3' is not of type 'integer'"),
        ({}, "does not fit the schema at $: 'age' is a required property"),
    ],
)
def test_a_value_that_does_not_fit(value: Any, message: str | None) -> None:
    """What does not fit is described by its path and the reason."""
    problem = mismatch(value, AGE)
    assert (problem and str(problem)) == message


def test_a_long_value_is_not_quoted_whole() -> None:
    """A message about a long value is cut."""
    problem = mismatch("x" * 10_000, AGE)
    assert problem is not None
    assert len(problem.message) == 200


@pytest.mark.parametrize("schema", [ELSEWHERE, {"$ref": "#/$defs/nothing"}])
def test_references_are_never_fetched(schema: dict[str, Any], connections: list[Any]) -> None:
    """A reference to another document is an error, and the network is not asked."""
    with pytest.raises(ValueError, match="not usable: it refers to "):
        mismatch(1, schema)
    assert connections == []


@pytest.mark.parametrize(
    ("text", "schema", "message"),
    [
        ("no", AGE, "the answer is not JSON: Expecting value"),
        ("[" * 100_000, AGE, "the answer is not JSON: "),
        ("[]", AGE, r"the answer does not fit the schema at \$: \[\] is not of type 'object'"),
        ("[]", {"type": "int"}, "the schema is not a valid JSON Schema: 'int' is not valid"),
        ("[]", ELSEWHERE, "the schema is not usable: it refers to https://example.com"),
    ],
)
def test_an_answer_that_does_not_fit(text: str, schema: dict[str, Any], message: str) -> None:
    """The error says whether the answer is not JSON, does not fit, or the schema is at fault."""
    with pytest.raises(RequestError, match=message):
        validate(text, schema)
