"""Schemas as people write them, each with JSON that fits and JSON that does not.

They are made of those in schemas.jsonl, in the shapes that Pydantic, OpenAPI, unions and the
schemas of configuration files give them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Schema = dict[str, Any]

LINES = Path(__file__).with_suffix(".jsonl").read_text("utf-8").splitlines()


class Case(NamedTuple):
    """A schema, values that fit it and values that do not.

    `closed` are values that fit, but that the mask leaves out by decision: they have properties
    that are not declared, or a text is not of the schema's format.
    """

    name: str
    schema: Schema
    valid: list[Any]
    invalid: list[Any]
    closed: list[Any]


def _draft_7(part: Schema) -> Schema:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"it": part},
        "type": "array",
        # Beside a reference, nothing counts in this draft.
        "items": [{"$ref": "#/definitions/it", "type": "null"}],
        "additionalItems": False,
        "minItems": 1,
    }


def _pydantic(part: Schema) -> Schema:
    inner = {"type": "object", "properties": {"it": part}, "required": ["it"]}
    name = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Name"}
    return {
        "$defs": {"Inner": inner},
        "title": "Model",
        "type": "object",
        "properties": {"name": name, "inner": {"$ref": "#/$defs/Inner"}},
        "required": ["inner"],
    }


def _openapi(part: Schema) -> Schema:
    thing = {
        "type": "object",
        "required": ["id", "it"],
        "properties": {"id": {"type": "integer", "format": "int64"}, "it": part},
    }
    return {
        "$schema": "https://example.com/no-such-schema",
        "components": {"schemas": {"Thing": thing}},
        "allOf": [{"$ref": "#/components/schemas/Thing"}],
        "nullable": True,
    }


def _union(part: Schema) -> Schema:
    return {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "it"}, "it": part},
                "required": ["kind", "it"],
            },
            {"type": "object", "properties": {"kind": {"const": "no"}}, "required": ["kind"]},
        ],
        "discriminator": {"propertyName": "kind"},
    }


# How each shape changes a schema, and a value that fits it.
SHAPES: dict[str, tuple[Callable[[Schema], Schema], Callable[[Any], Any]]] = {
    "alone": (lambda part: part, lambda value: value),
    "pydantic": (_pydantic, lambda value: {"name": None, "inner": {"it": value}}),
    "draft 7": (_draft_7, lambda value: [value]),
    "openapi": (_openapi, lambda value: {"id": 7, "it": value}),
    "union": (_union, lambda value: {"kind": "it", "it": value}),
}


def _is_complete(schema: Schema) -> bool:
    """Whether a schema means the same inside another one, whose draft it has, too."""
    return not any(keyword in json.dumps(schema) for keyword in ("#/", '"$schema"'))


def cases(*, all_shapes: bool = False) -> Iterator[Case]:
    """Yield every schema as it is and in a shape, which they take in turn, or in all shapes."""
    others = [name for name in SHAPES if name != "alone"]
    for number, line in enumerate(LINES, 1):
        part = json.loads(line)
        names = ["alone"]
        if _is_complete(part["schema"]):
            names += others if all_shapes else [others[number % len(others)]]
        for name in names:
            schema, value = SHAPES[name]
            kinds = ([value(each) for each in part[kind]] for kind in Case._fields[2:])
            yield Case(f"line {number}, {name}", schema(part["schema"]), *kinds)
