"""What counts as a right answer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from llm_tiered.evaluation.scoring import last_number, mistake, parse, schema_mistake

SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
}


@pytest.mark.parametrize(
    ("fields", "right", "wrong", "why"),
    [
        ({"exact": "Paris"}, " Paris\n", "Paris.", 'is not "Paris"'),
        ({"contains": "Paris"}, "It is Paris.", "paris", 'does not contain "Paris"'),
        ({"contains": ["a", "b"]}, "b a", "a", 'does not contain "b"'),
        ({"regex": r"^\d{4}$"}, "2024", "in 2024", r'does not match "^\\d{4}$"'),
        ({"regex": "(?i)yes"}, "Well, YES", "no", 'does not match "(?i)yes"'),
        ({"numeric": 4}, "2 + 2 is 4.", "4, not 5", "says 5 and not 4"),
        ({"numeric": 3.14, "tolerance": 0.01}, "3.1416", "3.2", "says 3.2 and not 3.14"),
        ({"numeric": 4}, "**4**", "four", "has no number in it"),
    ],
)
def test_criteria(fields: dict[str, Any], right: str, wrong: str, why: str) -> None:
    """Each criterion accepts a right answer, and says what is wrong with another."""
    expected = parse(fields, None)
    assert mistake(right, expected) is None
    assert mistake(wrong, expected) == why


def test_all_criteria_must_hold() -> None:
    """An answer is right if all criteria hold."""
    expected = parse({"contains": "42", "regex": "^The", "judge": "polite?"}, SCHEMA)
    assert mistake("42", expected) == 'does not match "^The"'
    assert mistake("The 42", expected) == "is not JSON"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 42.", 42),
        ("1,234,567.8 in all", 1_234_567.8),
        ("first 1,234 then 99", 99),
        ("1,2345", 2345),
        ("-5", -5),
        ("\N{MINUS SIGN}5", -5),
        ("3-4", 4),
        ("$0.50", 0.5),
        (".5", 0.5),
        ("6.02e23 of them", 6.02e23),
        ("\\boxed{17}", 17),
        ("5 km2", 5),
        ("none", None),
        ("", None),
    ],
)
def test_last_number(text: str, expected: float | None) -> None:
    """The last number counts, in any notation that people and models use."""
    assert last_number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"age": 3}', None),
        ('{"age": "3"}', "does not fit the schema at $.age: '3' is not of type 'integer'"),
        ("{}", "does not fit the schema at $: 'age' is a required property"),
        ("```json\n{}\n```", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_schema_mistake(text: str, expected: str | None) -> None:
    """A schema mistake says where and why the answer does not fit."""
    assert schema_mistake(text, SCHEMA) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/$defs/nothing"},
        {"type": "string", "pattern": "("},
    ],
)
def test_unusable_schema(schema: dict[str, Any]) -> None:
    """A schema that can't be evaluated is reported, and nothing is fetched."""
    why = schema_mistake('"x"', schema)
    assert why
    assert why.startswith("can't be checked: the schema is not ")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "nothing to score it by"),
        ({"exact": None}, "nothing to score it by"),
        ({"exact": 4}, "exact: found 4, expected text"),
        ({"exact": " "}, 'exact: found " ", expected text'),
        ({"contains": []}, "contains: found [], expected a string or a list of strings"),
        (
            {"contains": ["a", 1]},
            'contains: found ["a", 1], expected a string or a list of strings',
        ),
        ({"contains": ""}, 'contains: found [""], expected a string or a list of strings'),
        ({"regex": "("}, "regex: missing ), unterminated subpattern at position 0"),
        ({"numeric": "4"}, 'numeric: found "4", expected a number'),
        ({"numeric": True}, "numeric: found true, expected a number"),
        ({"numeric": float("nan")}, "numeric: found NaN, expected a number"),
        ({"numeric": 10**400}, "numeric: the number is too large"),
        ({"numeric": 4, "tolerance": -1}, "tolerance: expected 0 or more, together with 'numeric'"),
        ({"exact": "4", "tolerance": 1}, "tolerance: expected 0 or more, together with 'numeric'"),
        ({"judge": "x", "judge_model": 3}, "judge_model: found 3, expected text"),
    ],
)
def test_mistakes_in_rows(fields: dict[str, Any], error: str) -> None:
    """A wrong criterion is reported with the name of its field."""
    with pytest.raises(ValueError, match=f"^{re.escape(error)}"):
        parse(fields, None)


def test_invalid_schema() -> None:
    """An invalid schema is reported before anything is asked."""
    with pytest.raises(ValueError, match="schema: not a valid JSON Schema: 'integr' is not valid"):
        parse({"schema": {}}, {"type": "integr"})
