"""What masks allow, against what the check accepts."""

from __future__ import annotations

import datetime
import enum
import json
import random
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

import llguidance
import numpy as np
import pytest
from pydantic import BaseModel, Field, TypeAdapter

from llm_tiered import json_schema
from llm_tiered.errors import RequestError
from llm_tiered.mlx.tokens.structured import Constraint, Grammar, compile_schema
from tests.mlx.tokens.schemas import Case, cases

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

# Each byte is a token.
BYTES: Any = llguidance.LLTokenizer("byte")
CLOSING = b'"]}'
LETTERS = "abcdefghijkl"
LIKELY = b'abcdefghijklmnopqrstuvwxyz0123456789:-+.,"{}[]'


def allows(grammar: Grammar, value: Any) -> bool:
    """Whether the mask allows a value, written as models are made to write it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    tokens = BYTES.tokenize_bytes(text.encode())
    matcher = grammar.matcher.deep_copy()
    if matcher.validate_tokens(tokens) < len(tokens):
        return False
    return bool(matcher.consume_tokens(tokens) and matcher.is_accepting())


def fits(value: Any, schema: Schema) -> bool:
    """Whether the check accepts a value."""
    return json_schema.mismatch(value, schema) is None


def walk(matcher: Any, choose: random.Random, longest: int = 300) -> bytes | None:
    """Return what a model that knows nothing writes under a mask; None if it finds no end."""
    written = bytearray()
    while len(written) < longest:
        if matcher.is_accepting() and (matcher.is_stopped() or choose.random() < 0.7):
            return bytes(written)
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:256]).tolist()
        assert allowed or matcher.is_accepting(), f"no token may follow {bytes(written)!r}"
        if not allowed:
            return bytes(written)
        closing = [token for token in allowed if token in CLOSING]
        likely = [token for token in allowed if token in LIKELY] or allowed
        is_over = closing and (len(written) > 60 or choose.random() < 0.3)
        token = choose.choice(closing if is_over else likely)
        assert matcher.consume_token(token)
        written.append(token)
    return None


def wrong_values(case: Case, grammar: Grammar) -> Iterator[tuple[str, str, Any]]:
    """Yield the values about which the mask or the check is wrong."""
    for value in case.valid:
        if not (allows(grammar, value) and fits(value, case.schema)):
            yield case.name, "fits", value
    for value in case.invalid:
        if fits(value, case.schema) or (grammar.level == "strict" and allows(grammar, value)):
            yield case.name, "does not fit", value
    for value in case.closed:
        if allows(grammar, value) or not fits(value, case.schema):
            yield case.name, "left out by the mask alone", value


def test_mask_and_check_mean_the_same() -> None:
    """Of a few hundred schemas, mask and check accept what fits, and one refuses what does not.

    At the strict level the mask refuses it. Whatever is written under such a mask fits; no mask
    gets stuck.
    """
    choose = random.Random(8)
    offenders: list[tuple[str, str, Any]] = []
    written = []
    for case in cases():
        grammar = compile_schema(case.schema, BYTES)
        offenders += wrong_values(case, grammar)
        answer = walk(grammar.matcher.deep_copy(), choose)
        written.append(answer)
        try:
            json_schema.validate((answer or b"").decode(errors="replace"), case.schema)
        except RequestError as error:
            if answer is not None and grammar.level == "strict":
                offenders.append((case.name, str(error), answer))
    assert offenders == []
    assert len(written) > 250
    assert written.count(None) < 0.1 * len(written)


ONE = {"type": "object", "properties": {"a": {"type": "integer"}}}
TWO = {"type": "object", "properties": {"b": {"type": "integer"}}}
OPEN: list[Schema] = [
    {**ONE, "additionalProperties": True},
    {**ONE, "required": ["z"]},
    {**ONE, "minProperties": 2},
    {**ONE, "patternProperties": {"^x": {}}},
    {**ONE, "propertyNames": {"maxLength": 3}},
    {**ONE, "anyOf": [{"required": ["a"]}, {"required": ["z"]}]},
    {**ONE, "oneOf": [{"required": ["a"]}, {"required": ["z"]}]},
    {**ONE, "allOf": [TWO]},
    {**ONE, "if": {"required": ["a"]}, "then": {"required": ["z"]}},
    {**ONE, "$ref": "#/$defs/two", "$defs": {"two": TWO}},
    {"allOf": [ONE, TWO]},
    {"type": "object"},
]
CLOSED: list[Schema] = [
    ONE,
    {**ONE, "required": ["a"]},
    {**ONE, "minProperties": 1},
    {"properties": ONE["properties"]},
    {"allOf": [ONE]},
    {"anyOf": [ONE, TWO]},
    {"oneOf": [{**ONE, "required": ["a"]}, {"type": "null"}]},
    {"$ref": "#/$defs/one", "$defs": {"one": ONE}},
    {**ONE, "nullable": True},
    {**ONE, "title": "One", "description": "A.", "x-other": {"anyOf": []}},
]


def test_which_objects_are_closed() -> None:
    """An object gets no undeclared property, unless its schema says something of others."""
    value = {"a": 1, "z": 2}
    assert [each for each in OPEN if not allows(compile_schema(each, BYTES), value)] == []
    assert [each for each in CLOSED if allows(compile_schema(each, BYTES), value)] == []
    assert [each for each in CLOSED if not fits(value, each)] == []


def test_a_definition_is_closed_in_one_place_and_open_in_another() -> None:
    """What is a part of `allOf` is open there, and closed where it stands alone."""
    schema: Schema = {
        "$defs": {"one": ONE},
        "type": "object",
        "properties": {
            "alone": {"$ref": "#/$defs/one"},
            "both": {"allOf": [{"$ref": "#/$defs/one"}, TWO]},
        },
    }
    grammar = compile_schema(schema, BYTES)
    assert allows(grammar, {"alone": {"a": 1}, "both": {"a": 1, "b": 2}})
    assert not allows(grammar, {"alone": {"a": 1, "b": 2}})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x": ONE}, "allOf": [{"properties": {"x": TWO}}]},
        {"properties": {"x": ONE}, "anyOf": [{"properties": {"x": TWO}}, {"required": ["y"]}]},
        {"properties": {"x": ONE}, "if": {}, "then": {"properties": {"x": {"required": ["b"]}}}},
        {"properties": {"x": ONE}, "patternProperties": {"^x$": TWO}},
    ],
    ids=["allOf", "anyOf", "if", "pattern"],
)
def test_parts_of_which_two_schemas_say_something_are_open(schema: Schema) -> None:
    """A property that another schema in the same place describes too may have what that says."""
    assert allows(compile_schema(schema, BYTES), {"x": {"a": 1, "b": 2}})


def test_no_property_is_invented() -> None:
    """Declared properties are enough for `minProperties`, where undeclared ones may come too."""
    more: list[Schema] = [{}, {"additionalProperties": True}, {"patternProperties": {"^x": {}}}]
    for others in more:
        schema = {**ONE, **others, "minProperties": 1}
        grammar = compile_schema(schema, BYTES)
        assert allows(grammar, {"a": 1}), others


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    """A cat."""

    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    """A dog."""

    kind: Literal["dog"] = "dog"
    name: str | None = None


class Node(BaseModel):
    """A tree."""

    value: int
    children: list[Node] = []


PYTHON: list[Any] = [
    *(int, float, bool, str, None, datetime.date, datetime.time, datetime.datetime),
    *(datetime.timedelta, uuid.UUID, Colour, Node, list[int], tuple[int, str], dict[str, int]),
    *(Literal["a", 1], int | None, dict[Colour, int], dict[Literal["a", "b"], int]),
    *(dict[datetime.date, bool], dict[uuid.UUID, int]),
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Annotated[float, Field(multiple_of=0.01, ge=0, lt=100)],
    Annotated[str, Field(pattern=r"^\w{2,3}$")],
    Annotated[list[int], Field(min_length=1, max_length=3)],
]


def test_python_types() -> None:
    """What is written under the mask of a Python type's schema can be read as that type."""
    choose = random.Random(3)
    ends = 0
    for kind in PYTHON:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        grammar = compile_schema(adapter.json_schema(), BYTES)
        for _ in range(5):
            written = walk(grammar.matcher.deep_copy(), choose)
            if written is not None:
                ends += 1
                adapter.validate_json(written.decode(errors="replace"))
    assert ends > 4 * len(PYTHON)


def test_unions_of_models() -> None:
    """A union whose models differ in a constant is held by the mask, also one of references."""
    union = TypeAdapter(Annotated[Cat | Dog, Field(discriminator="kind")])
    assert "$ref" in str(union.json_schema())
    grammar = compile_schema(union.json_schema(), BYTES)
    assert grammar.level == "strict"
    assert allows(grammar, {"kind": "dog", "name": None})
    assert not allows(grammar, {"kind": "dog", "lives": 9})


def test_times_without_an_offset() -> None:
    """A date and time may have an offset or none, since Python has types for both."""
    grammar = compile_schema({"type": "string", "format": "date-time"}, BYTES)
    assert allows(grammar, "2024-02-29T10:00:00")
    assert allows(grammar, "2024-02-29T10:00:00.5+05:30")
    assert not allows(grammar, "2023-02-29T10:00:00Z")


def nested(depth: int) -> Schema:
    """Return a schema that is nested so deeply."""
    schema: Schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema, "minItems": 1}
    return schema


def test_deep_schemas() -> None:
    """A schema may be nested more deeply than llguidance reads; beyond a limit, it is said."""
    value: Any = 1
    for _ in range(250):
        value = [value]
    assert allows(compile_schema(nested(250), BYTES), value)
    with pytest.raises(RequestError, match="the schema is not usable: it is nested too deeply"):
        compile_schema(nested(5000), BYTES)


def test_many_properties() -> None:
    """An object may have more optional properties than llguidance allows by default."""
    schema = {"type": "object", "properties": {f"p{n}": {"type": "null"} for n in range(600)}}
    assert allows(compile_schema(schema, BYTES), {"p3": None, "p599": None})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({**ONE, "properties": {"a": {"allOf": [{"$ref": "#"}, TWO]}}}, {"a": {}}),
        (
            {
                "allOf": [
                    {"anyOf": [{"required": [f"{n}{letter}"]} for letter in "ab"]}
                    for n in range(12)
                ]
            },
            {f"{n}a": 1 for n in range(12)},
        ),
    ],
    ids=["merged with itself", "many combinations"],
)
def test_what_can_not_be_merged(schema: Schema, value: Any) -> None:
    """If schemas that apply in one place can't be merged, one is masked, and the rest checked."""
    grammar = compile_schema(schema, BYTES)
    assert grammar.level == "lenient"
    assert fits(value, schema)


NEVER: Schema = {"type": "array", "items": {"$ref": "#/$defs/never"}, "minItems": 1}
NOTHING: Schema = {"type": "integer", "minimum": 2, "maximum": 1}


@pytest.mark.parametrize(
    ("schema", "right", "stuck"),
    [
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/never"}, "b": {}}},
            {"b": 1},
            '{"a"',
        ),
        ({"anyOf": [{"$ref": "#/$defs/never"}, {"type": "null"}]}, None, "["),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/nothing"}, "b": {}}},
            {"b": 1},
            '{"a"',
        ),
        ({"type": "array", "items": {"$ref": "#/$defs/nothing"}}, [], "[1"),
        (
            {
                "type": "object",
                "patternProperties": {"^(?:en|de)$": {"type": "string"}},
                "required": ["en", "de"],
                "additionalProperties": False,
            },
            {"en": "a", "de": "b"},
            '{"en":"a","de":"b",',
        ),
        (
            {
                "type": "object",
                "properties": {"c": {"minimum": 0}},
                "patternProperties": {"^[cd]$": {"type": "integer"}},
                "additionalProperties": False,
            },
            {"c": 1, "d": -1},
            '{"d":1,',
        ),
    ],
)
def test_no_way_into_a_dead_end(schema: Schema, right: Any, stuck: str) -> None:
    """A mask leaves out what could never be brought to an end."""
    grammar = compile_schema({**schema, "$defs": {"never": NEVER, "nothing": NOTHING}}, BYTES)
    assert allows(grammar, right)
    tokens = BYTES.tokenize_str(stuck)
    assert grammar.matcher.validate_tokens(tokens) < len(tokens)


class Letters:
    """A tokenizer that knows few letters."""

    tokens = (b"\xff<end>", b'"', b"a", b"b")
    special_token_ids = (0,)
    eos_token_id = 0
    bos_token_id = None

    def __call__(self, text: bytes | str) -> list[int]:
        """Return the tokens of a text."""
        data = text.encode() if isinstance(text, str) else text
        letters = [bytes([byte]) for byte in data]
        return [self.tokens.index(letter) for letter in letters if letter in self.tokens]


def test_dead_end() -> None:
    """If a model has no token that continues the JSON, the request fails: it is not its fault."""
    import mlx.core as mx

    few = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Letters()))
    constraint = Constraint(compile_schema({"const": "abc"}, few))
    tokens = [0]
    while constraint.error is None and len(tokens) < 6:
        masked: Any = constraint(mx.array(tokens), mx.zeros((1, 4)))[0].tolist()
        tokens.append(masked.index(0))
    assert tokens[1:4] == [1, 2, 3]
    assert isinstance(constraint.error, RequestError)
    assert str(constraint.error).startswith("the schema can't guide this model to its end: ")


def test_no_token_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a mask allows no token, none is sampled from logits that are all minus infinity."""
    import llguidance.numpy
    import mlx.core as mx

    def allow_nothing(_: Any, mask: Any) -> None:
        mask[:] = 0

    monkeypatch.setattr(llguidance.numpy, "fill_next_token_bitmask", allow_nothing)
    constraint = Constraint(compile_schema({"const": "abc"}, BYTES))
    logits: Any = constraint(mx.array([0]), mx.zeros((1, 256)))
    assert logits.min().item() == 0
    assert "no token of this model continues the JSON" in str(constraint.error)
