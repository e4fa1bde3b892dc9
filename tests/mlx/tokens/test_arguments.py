"""The arguments that a model wrote get the types of the tool's schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.json_schema import mismatch
from llm_tiered.mlx.tokens.arguments import mended, read_json, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

STRING = {"type": "string"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
BOOLEAN = {"type": "boolean"}
NULLABLE_INTEGER = {"anyOf": [INTEGER, {"type": "null"}], "default": None}
NULLABLE_STRING = {"type": ["string", "null"]}
ARRAY = {"type": "array"}
OBJECT = {"type": "object", "properties": {"a": INTEGER}}
ANYTHING: dict[str, Any] = {}

CASES: list[tuple[dict[str, Any], str, Any]] = [
    # A string stays one, whatever it looks like.
    *[(STRING, text, text) for text in ("2026", "null", "None", "true", "5.0", "[1]", '{"a": 1}')],
    *[(STRING, text, text) for text in ("", " a\n b ", '"quoted"', "yes", "</parameter>")],
    ({"type": "string", "enum": ["1", "2"]}, "2", "2"),
    ({"type": "string", "enum": ["on", "off"]}, "on", "on"),
    ({"type": "string", "enum": ["a", "b"]}, " b ", "b"),
    ({"type": "string", "pattern": "^[0-9]+$"}, "007", "007"),
    (NULLABLE_STRING, "2026", "2026"),
    (NULLABLE_STRING, "null", None),
    (NULLABLE_STRING, "None", None),
    (NULLABLE_STRING, "", ""),
    (NULLABLE_STRING, "nullify", "nullify"),
    # Numbers.
    (INTEGER, "5", 5),
    (INTEGER, " 5\n", 5),
    (INTEGER, "-5", -5),
    (INTEGER, "5.0", 5),
    (INTEGER, "1e3", 1000),
    (INTEGER, "+5", 5),
    (INTEGER, "007", 7),
    (INTEGER, "5.5", "5.5"),
    (INTEGER, "five", "five"),
    (INTEGER, "true", "true"),
    (INTEGER, "null", "null"),
    (INTEGER, "", ""),
    (INTEGER, str(2**60 + 1), 2**60 + 1),
    (NUMBER, "5", 5),
    (NUMBER, "5.25", 5.25),
    (NUMBER, ".5", 0.5),
    (NUMBER, "1e-3", 0.001),
    (NUMBER, "NaN", "NaN"),
    (NUMBER, "inf", "inf"),
    (NULLABLE_INTEGER, "5", 5),
    (NULLABLE_INTEGER, "null", None),
    (NULLABLE_INTEGER, "Null", None),
    (NULLABLE_INTEGER, "", None),
    ({"enum": [1, 2, 3]}, "2", 2),
    ({"enum": [1, 2, 3]}, "4", "4"),
    ({"enum": ["1", 2]}, "1", "1"),
    ({"enum": ["1", 2]}, "2", 2),
    ({"const": 7}, "7", 7),
    ({"type": ["integer", "string"]}, "5", 5),
    ({"type": ["integer", "string"]}, "five", "five"),
    ({"oneOf": [INTEGER, BOOLEAN]}, "1", 1),
    # Booleans.
    *[(BOOLEAN, text, True) for text in ("true", "True", "TRUE", "yes", "Yes", "on", "1")],
    *[(BOOLEAN, text, False) for text in ("false", "False", "no", "off", "0")],
    (BOOLEAN, "maybe", "maybe"),
    ({"type": ["boolean", "null"]}, "None", None),
    # Arrays and objects.
    (ARRAY, "[1, 2]", [1, 2]),
    (ARRAY, "['a', 'b']", ["a", "b"]),
    (ARRAY, "('a', 1)", ["a", 1]),
    (ARRAY, "a, b", "a, b"),
    ({"type": "array", "items": STRING}, '["1", "null"]', ["1", "null"]),
    (OBJECT, '{"a": 1}', {"a": 1}),
    (OBJECT, "{'a': 1}", {"a": 1}),
    (OBJECT, '{\n  "a": 1,\n  "b": "x\ny"\n}', {"a": 1, "b": "x\ny"}),
    (OBJECT, "{1, 2}", "{1, 2}"),
    (OBJECT, '{"a": "1"}', {"a": "1"}),
    ({"anyOf": [OBJECT, {"type": "null"}]}, "null", None),
    # Another schema, or none.
    ({"$ref": "#/$defs/Size"}, "5", 5),
    ({"$ref": "#/$defs/Size"}, "large", "large"),
    ({"anyOf": [{"$ref": "#/$defs/Code"}, {"type": "null"}]}, "12", "12"),
    ({"allOf": [{"$ref": "#/$defs/Code"}]}, "12", "12"),
    (ANYTHING, "5", 5),
    (ANYTHING, "five", "five"),
    (ANYTHING, "null", None),
    (ANYTHING, '"five"', '"five"'),
]


def tool_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool's schema, with other required arguments and definitions."""
    definitions = {"Size": {"enum": [4, 5, "large"]}, "Code": {"type": "string"}}
    return {
        "type": "object",
        "properties": {**properties, "other": INTEGER},
        "required": ["other", *properties],
        "$defs": definitions,
    }


def test_every_form_fits_its_schema() -> None:
    """A text is a value wherever the schema allows that value, else a string."""
    wrong = []
    for schema, text, expected in CASES:
        value = typed({"value": text}, tool_schema({"value": schema}))["value"]
        if (type(value), value) != (type(expected), expected):
            wrong.append((schema, text, value))
    assert wrong == []


def test_arguments_together() -> None:
    """Each argument is read for itself, whatever is wrong with the others."""
    schema = tool_schema({"size": INTEGER, "name": STRING, "on": BOOLEAN})
    arguments = {"size": "large", "name": "5", "on": "yes", "other": "6", "unknown": "7"}
    assert typed(arguments, schema) == {
        **{"size": "large", "name": "5", "on": True, "other": 6, "unknown": 7}
    }


def test_arguments_of_any_name() -> None:
    """The types of arguments that a schema does not name are those of its other properties."""
    schema = {
        "type": "object",
        "patternProperties": {"^n": INTEGER},
        "additionalProperties": STRING,
    }
    assert typed({"number": "5", "other": "5"}, schema) == {"number": 5, "other": "5"}


def test_schema_behind_a_reference() -> None:
    """The schema of the arguments may be a reference or a combination itself."""
    arguments = {"type": "object", "properties": {"a": STRING, "b": INTEGER}, "required": ["a"]}
    for schema in (
        {"$ref": "#/$defs/A", "$defs": {"A": arguments}},
        {"allOf": [arguments, {"required": ["b"]}]},
    ):
        assert typed({"a": "1", "b": "2"}, schema) == {"a": "1", "b": 2}


@pytest.mark.parametrize("schema", [{"type": "strin"}, {"$ref": "http://127.0.0.1:9/s.json"}])
def test_useless_schema(schema: dict[str, Any]) -> None:
    """Without a usable schema a text is read as what it looks like."""
    assert typed({"a": "5", "b": "five"}, schema) == {"a": 5, "b": "five"}


def test_python_functions() -> None:
    """The schemas that llm derives from Python's annotations are understood."""

    def look(query: str, limit: int | None = None, tags: list[str] | None = None) -> str:
        return f"{query} {limit} {tags}"

    schema: Any = llm.Tool.function(look).input_schema
    arguments = typed({"query": "5", "limit": "5", "tags": '["5"]'}, schema)
    assert arguments == {"query": "5", "limit": 5, "tags": ["5"]}
    assert mismatch(arguments, schema) is None


MENDED: list[tuple[dict[str, Any], Any, Any]] = [
    # What fits stays.
    *[(STRING, text, text) for text in ("5", "null", "None", "")],
    (NULLABLE_STRING, "null", "null"),
    ({"type": ["integer", "string"]}, "5", "5"),
    (NUMBER, 5.0, 5.0),
    (ANYTHING, 5.0, 5.0),
    (ANYTHING, "5", "5"),
    (NULLABLE_INTEGER, None, None),
    # In quotes.
    (INTEGER, "5", 5),
    (NUMBER, "5.25", 5.25),
    (BOOLEAN, "True", True),
    (ARRAY, '["a", 1]', ["a", 1]),
    (OBJECT, '{"a": 1}', {"a": 1}),
    (NULLABLE_INTEGER, "null", None),
    # Whole numbers.
    (INTEGER, 5.0, 5),
    (INTEGER | {"minimum": 5}, 5.0, 5),
    (NULLABLE_INTEGER, 5.0, 5),
    (INTEGER, 5.5, 5.5),
    # Without quotes.
    (STRING, 10115, "10115"),
    (STRING, 2.5, "2.5"),
    ({"enum": ["1", "2"]}, 2, "2"),
    # What can't be mended stays, so that the error shows it.
    (INTEGER, "five", "five"),
    (INTEGER, [5], [5]),
    (STRING, True, True),
    ({"enum": ["1", "2"]}, 5, 5),
    ({"type": "strin"}, "5", "5"),
]


@pytest.mark.parametrize("is_required", [True, False])
def test_mended(is_required: bool) -> None:
    """Of arguments with types, those that don't fit become what the model meant."""
    required = ["a"] if is_required else []
    for schema, value, expected in MENDED:
        parameters = {"type": "object", "properties": {"a": schema}, "required": required}
        arguments = mended({"a": value, "b": "5"}, parameters)
        assert arguments == {"a": expected, "b": "5"}
        assert type(arguments["a"]) is type(expected), (schema, value)


@pytest.mark.parametrize("nothing", [None, "null", "None", ""])
def test_nothing(nothing: str | None) -> None:
    """An optional argument that is nothing is left out where that does not fit."""
    parameters = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["b"]}
    assert mended({"a": nothing, "b": nothing}, parameters) == {"b": nothing}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("NaN", "NaN"), ("[-Infinity]", "Inf"), ("", "value"), ("[" * 100_000, "too deeply")],
    ids=["NaN", "infinity", "nothing", "deep"],
)
def test_not_json(text: str, reason: str) -> None:
    """What is not JSON is a ValueError, also where Python's parser is lax or gives up."""
    with pytest.raises(ValueError, match=reason):
        read_json(text)


def test_raw_line_breaks() -> None:
    """Strings may contain raw line breaks and tabs."""
    text = json.dumps({"a": "x\ny\tz"}).replace("\\n", "\n").replace("\\t", "\t")
    assert read_json(text) == {"a": "x\ny\tz"}
