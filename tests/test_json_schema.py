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


MULTIPLES = [
    *((4.35, 0.01), (19.99, 0.01), (0.07, 0.01), (1.1, 0.1), (-2.3, 0.1), (1e300, 0.5)),
    *((3, 1.0), (3.0, 1), (2**70, 2), (12345678.91, 0.01), (0.3, 0.1), (1e-9, 1e-9), (0, 0.3)),
]


def test_multiples_are_exact() -> None:
    """A number is a multiple if it is one as it is written, in decimal."""
    wrong = [each for each in MULTIPLES if mismatch(each[0], {"multipleOf": each[1]})]
    assert wrong == []
    for value, factor in [(4.355, 0.01), (0.35, 0.1), (7, 2), (float("inf"), 0.5)]:
        assert mismatch(value, {"multipleOf": factor}), value
    assert mismatch("a", {"multipleOf": 0.01}) is None


def test_a_whole_number_may_be_written_as_a_float() -> None:
    """1.0 is an integer and equals 1, in every draft; true is neither."""
    draft_4 = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}
    assert mismatch(1.0, draft_4) is None
    assert mismatch(1.0, {"enum": [1]}) is None
    assert mismatch(True, {"enum": [1]})


def test_a_format_is_an_annotation() -> None:
    """A text of another format fits."""
    assert mismatch("today", {"type": "string", "format": "date"}) is None


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_what_is_no_json_although_python_reads_it(text: str) -> None:
    """Python reads these constants, and other readers of JSON do not."""
    with pytest.raises(RequestError, match=r"the answer is not JSON: .* is not a value of JSON"):
        validate(text, {})


def test_the_last_of_equal_keys_counts() -> None:
    """A key that occurs twice counts once, with its last value."""
    schema = {"additionalProperties": {"type": "integer"}, "minProperties": 2}
    validate('{"a": "x", "a": 1, "b": 2}', schema)
    with pytest.raises(RequestError, match="does not have enough properties"):
        validate('{"a": 1, "a": 2}', schema)


def test_a_pattern_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that can't be checked in time is an error, and does not hang."""
    monkeypatch.setattr("llm_tiered.patterns.TIME_LIMIT", 0.05)
    with pytest.raises(RequestError, match=r"the schema is not usable: .* takes too long"):
        validate(json.dumps("a" * 60 + "b"), {"pattern": "^(a|a|aa)*$"})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "itself without end"),
        ({"allOf": [{"anyOf": [{"not": {"$ref": "#"}}, True]}]}, "itself without end"),
        ({"pattern": "("}, "not usable: the pattern"),
        ({"patternProperties": {"(": {}}}, "not usable: the pattern"),
        ({"enum": [{1, 2}]}, "not a valid JSON Schema"),
    ],
    ids=["loop", "loop in parts", "pattern", "name", "set"],
)
def test_a_schema_that_can_not_be_checked(schema: dict[str, Any], message: str) -> None:
    """A schema that would go wrong in the check is an error that says what it is about."""
    with pytest.raises(ValueError, match=message):
        mismatch({}, schema)


def test_additional_properties() -> None:
    """What no property and no pattern names is additional, and named in the message."""
    schema = {
        "properties": {"a": {}},
        "patternProperties": {r"^\p{Lu}$": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert mismatch({"a": 1, "É": 2}, schema) is None
    assert "'b' is not among" in str(mismatch({"b": 1}, schema))
    assert mismatch({"É": "x"}, schema)
    assert mismatch({"b": 1}, {**schema, "additionalProperties": {"type": "null"}})
