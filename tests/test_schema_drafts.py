"""Schemas of all drafts, as draft 2020-12."""

from __future__ import annotations

from typing import Any

import pytest

from llm_tiered.schema_drafts import inner, modern

Schema = dict[str, Any]

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema"

REWRITTEN: dict[str, tuple[Schema, Schema]] = {
    "tuple": (
        {"items": [{"type": "null"}], "additionalItems": False},
        {"prefixItems": [{"type": "null"}], "items": False},
    ),
    "no tuple": (
        {"items": {"type": "null"}, "additionalItems": False},
        {"items": {"type": "null"}},
    ),
    "exclusive": (
        {"minimum": 1, "exclusiveMinimum": True, "maximum": 3, "exclusiveMaximum": False},
        {"exclusiveMinimum": 1, "maximum": 3},
    ),
    "dependencies": (
        {"dependencies": {"a": ["b"], "c": {"required": ["d"]}, "e": "f"}},
        {
            "dependentRequired": {"a": ["b"], "e": ["f"]},
            "dependentSchemas": {"c": {"required": ["d"]}},
        },
    ),
    "whole numbers": ({"minLength": 2.0, "multipleOf": 0.5}, {"minLength": 2, "multipleOf": 0.5}),
    "annotations": (
        {"title": 5, "examples": {"a": 1}, "x-guidance": {}, "$comment": "", "format": "date"},
        {"format": "date"},
    ),
    "a property of any name": (
        {"properties": {"title": {"title": "a"}, "$ref": {"type": "null"}, "enum": {}}},
        {"properties": {"title": {}, "$ref": {"type": "null"}, "enum": {}}},
    ),
    "definitions": (
        {"definitions": {"a": {"type": "null"}}, "items": {"$ref": "#/definitions/a"}},
        {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "null"}}},
    ),
    "components": (
        {"$ref": "#/components/schemas/A", "components": {"schemas": {"A": {"type": "null"}}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "null"}}},
    ),
    "into a tuple": (
        {"items": [{"type": "null"}], "not": {"$ref": "#/items/0"}},
        {
            "prefixItems": [{"type": "null"}],
            "not": {"$ref": "#/$defs/0"},
            "$defs": {"0": {"type": "null"}},
        },
    ),
    "odd names": (
        {"$ref": "#/$defs/a%25b~1c", "$defs": {"a%b/c": {"type": "null"}}},
        {"$ref": "#/$defs/a_25b_1c", "$defs": {"a_25b_1c": {"type": "null"}}},
    ),
    "anchor": (
        {"$ref": "#here", "$defs": {"a": {"$anchor": "here", "type": "null"}}},
        {"$ref": "#/$defs/here", "$defs": {"here": {"type": "null"}}},
    ),
    "id": (
        {
            "$id": "https://example.com/a/b.json",
            "$ref": "../c.json#/x",
            "$defs": {"c": {"$id": "/c.json", "x": {"$ref": "#"}, "type": "null"}},
        },
        {
            "$ref": "#/$defs/x",
            "$defs": {"x": {"$ref": "#/$defs/schema"}, "schema": {"type": "null"}},
        },
    ),
    "itself": ({"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}),
    "beside a reference": (
        {"$ref": "#/$defs/a", "minLength": 1, "$defs": {"a": True}},
        {"$ref": "#/$defs/a", "minLength": 1, "$defs": {"a": True}},
    ),
    "beside a reference in draft 7": (
        {"$schema": DRAFT_7, "$ref": "#/definitions/a", "minLength": 1, "definitions": {"a": {}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {}}},
    ),
    "id of draft 4": (
        {"$schema": DRAFT_4, "$ref": "a.json", "definitions": {"a": {"id": "a.json"}}},
        {"$ref": "#/$defs/a_json", "$defs": {"a_json": {}}},
    ),
    "nullable": ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
    "nullable enum": (
        {"type": "string", "enum": ["a"], "nullable": True},
        {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]},
    ),
    "not nullable": ({"type": "string", "nullable": False}, {"type": "string"}),
    "discriminator": (
        {
            "oneOf": [{"$ref": "#/$defs/a"}, {"properties": {"kind": {}}, "required": ["kind"]}],
            "discriminator": {"propertyName": "kind"},
            "$defs": {"a": {"properties": {"kind": {}, "of": {"$ref": "#"}}, "required": ["of"]}},
        },
        {
            "oneOf": [{"$ref": "#/$defs/kind"}, {"properties": {"kind": {}}, "required": ["kind"]}],
            "$defs": {
                "kind": {
                    "properties": {"kind": {}, "of": {"$ref": "#"}},
                    "required": ["of", "kind"],
                }
            },
        },
    ),
    "discriminator of no branch": (
        {"anyOf": [{"type": "null"}, True], "discriminator": {"propertyName": "kind"}},
        {"anyOf": [{"type": "null"}, True]},
    ),
    "old discriminator": ({"anyOf": [{}], "discriminator": "kind"}, {"anyOf": [{}]}),
    "Gemini's types": (
        {"type": "OBJECT", "properties": {"a": {"type": ["STRING", "null"]}}},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
    ),
    "dynamic": (
        {"$dynamicAnchor": "node", "items": {"$dynamicRef": "#node"}},
        {"items": {"$ref": "#"}},
    ),
    "wrong": ({"properties": ["a"], "allOf": 3}, {"properties": ["a"], "allOf": 3}),
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_modern(case: str) -> None:
    """Each schema is rewritten into one of draft 2020-12 that says the same."""
    schema, expected = REWRITTEN[case]
    before = repr(schema)
    assert modern(schema) == expected
    assert repr(schema) == before


@pytest.mark.parametrize(
    "uri",
    [
        *("https://json-schema.org/draft-07/schema", "http://json-schema.org/schema#", "", 5),
        "http://127.0.0.1:9/schema.json",
    ],
)
def test_any_schema_uri(uri: Any, connections: list[Any]) -> None:
    """`$schema` may be anything: it is never fetched, and no reason to refuse a schema."""
    assert modern({"$schema": uri, "type": "null"}) == {"type": "null"}
    assert connections == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#/$defs/a"}, "refers to #/\\$defs/a, which is not in it"),
        ({"$ref": "http://127.0.0.1:9/a.json#/b"}, "which is not in it"),
        ({"$ref": "#/type", "type": "string"}, "which is not a schema"),
        ({"$ref": 3}, "refers to 3, which is not text"),
        (
            {
                "$dynamicAnchor": "a",
                "items": {"$dynamicAnchor": "a", "items": {"$dynamicRef": "#a"}},
            },
            "several schemas for the dynamic #a",
        ),
    ],
)
def test_a_reference_that_leads_nowhere(
    schema: Schema, message: str, connections: list[Any]
) -> None:
    """A reference to nothing in the schema is an error, and the network is not asked."""
    with pytest.raises(ValueError, match=f"not usable: it {message}|{message}"):
        modern(schema)
    assert connections == []


def test_inner() -> None:
    """All schemas inside one are found, and what only looks like one is not."""
    schema = {
        "properties": {"a": {"enum": [{"type": "b"}]}},
        "allOf": [{"items": {"type": "c"}}],
        "$defs": {"d": {"type": "e"}},
    }
    kinds = [each["type"] for each in inner(schema) if "type" in each]
    assert kinds == ["c", "e"]


def test_deep() -> None:
    """What is nested very deeply is an error."""
    schema: Schema = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(ValueError, match="not usable: it is nested too deeply"):
        modern(schema)
