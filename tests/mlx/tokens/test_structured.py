"""Structured output of random models, which would never write JSON on their own."""

from __future__ import annotations

import asyncio
import json
import shutil
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
import llm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from llm_tiered.errors import RequestError
from llm_tiered.mlx.tokens.grammar_tokenizer import make_tokenizer
from llm_tiered.mlx.tokens.structured import compile_schema
from tests.chat_templates import QWEN3_TEMPLATE
from tests.mlx.models import async_local_model, details, local_model
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.models import AsyncMlxModel
    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

Schema = dict[str, Any]

FAMILIES: tuple[Family, ...] = ("phi3", "qwen2", "qwen3")
HOT: dict[str, Any] = {"temperature": 1, "max_tokens": 100}
OPENED = QWEN3_TEMPLATE.replace(
    '"<|im_start|>assistant\\n"', '"<|im_start|>assistant\\n<think>\\n"'
)


def record(**properties: Any) -> Schema:
    """Return the schema of an object with all of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


DIGIT: Schema = {"type": "integer", "minimum": 0, "maximum": 9}
WORD: Schema = {"type": "string", "minLength": 1, "maxLength": 5}
TREE: Schema = {
    "$defs": {
        "tree": record(
            leaf={"type": "boolean"},
            branches={"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1},
        )
    },
    "$ref": "#/$defs/tree",
}

STRICT: dict[str, Schema] = {
    "record": record(a=DIGIT, b={"type": "boolean"}),
    "nested": record(a=record(b=record(c=record(d={"type": "null"}))), e=DIGIT),
    "optional": {"type": "object", "properties": {"a": DIGIT}, "additionalProperties": False},
    "array": {"type": "array", "items": DIGIT, "minItems": 2, "maxItems": 4},
    "empty array": {"type": "array", "maxItems": 0},
    "tuple": {"type": "array", "prefixItems": [DIGIT, WORD], "items": False, "minItems": 2},
    "rows": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
        "minItems": 1,
        "maxItems": 2,
    },
    "enum": {"enum": ["red", "green", "blue"]},
    "enum of all kinds": {"enum": ["a", 1, 2.5, None, True, [1, 2], {"b": "c"}]},
    "unicode": {"enum": ["Größe", "日本語", "🎵🙂", 'a "b" \\ / \n\t\u0007']},
    "const": {"const": {"a": [1, 'say "hi"'], "ü": None}},
    "any of": {"anyOf": [DIGIT, WORD, {"type": "null"}]},
    "any of records": {
        "anyOf": [record(kind={"const": "a"}, x=DIGIT), record(kind={"const": "b"}, y=WORD)]
    },
    "types": {"type": ["integer", "null", "boolean"], "minimum": 1, "maximum": 5},
    "all of": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]},
    "reference": {"$defs": {"digit": DIGIT}, **record(a={"$ref": "#/$defs/digit"})},
    "recursion": TREE,
    "range": {"type": "integer", "minimum": -120, "maximum": 1050},
    "open range": {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 3},
    "number": {"type": "number", "minimum": 0.25, "exclusiveMaximum": 0.75},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
    "length": {"type": "string", "minLength": 3, "maxLength": 6},
    "pattern": {"type": "string", "pattern": "^[A-G](#|b)?[0-8]$"},
    "pattern with unicode": {"type": "string", "pattern": "^(é|ß|你|🎵){1,3}$"},
    "pattern inside": {"type": "string", "pattern": "x", "maxLength": 6},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "other properties": {
        "type": "object",
        "additionalProperties": {"type": "boolean"},
        "properties": {"a": DIGIT},
        "required": ["a"],
        "maxProperties": 1,
    },
    "named by pattern": {
        "type": "object",
        "patternProperties": {"^[xy]$": DIGIT},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 2,
    },
    "odd names": record(**{'say "hi"': DIGIT, "back\\slash": DIGIT, "": DIGIT, "Ü 🎵": DIGIT}),
}
COERCED: dict[str, Schema] = {
    "one of numbers": {"oneOf": [{"type": "integer", "maximum": 9, "minimum": 0}, WORD, DIGIT]},
    "one of records": record(
        a={"oneOf": [record(x=DIGIT), {**record(x=DIGIT, y=DIGIT), "required": ["x"]}]}
    ),
}
LENIENT: dict[str, Schema] = {
    "unique": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3, "uniqueItems": True},
    "contains": {"type": "array", "items": DIGIT, "contains": {"const": 7}, "maxItems": 2},
    "condition": {
        **record(a={"type": "boolean"}),
        "if": {"properties": {"a": {"const": True}}},
        "then": {"required": ["b"]},
    },
    "not": {**DIGIT, "not": {"const": 4}},
}
LEVELS = {
    **dict.fromkeys(STRICT, "strict"),
    **dict.fromkeys(COERCED, "coerce"),
    **dict.fromkeys(LENIENT, "lenient"),
}
SCHEMAS = {**STRICT, **COERCED, **LENIENT}

# Schemas whose answers may be longer than max_tokens, because a random model seldom ends them.
ENDLESS = ("recursion", "number")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a model of each family, and of one whose template opens the reasoning."""
    root = tmp_path_factory.mktemp("structured")
    folders: dict[str, Path] = {
        family: build(family, root / family, layers=1, context=4096) for family in FAMILIES
    }
    folders["opening"] = shutil.copytree(folders["qwen3"], root / "opening")
    (folders["opening"] / "chat_template.jinja").write_text(OPENED)
    return folders


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, llm.Model]:
    """The same models, as llm sees them."""
    return {name: local_model(folder, f"mlx/structured-{name}") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def async_model(folders: dict[str, Path]) -> AsyncMlxModel:
    """The async model of one family."""
    return async_local_model(folders["qwen2"], "mlx/structured-qwen2")


def test_levels(folders: dict[str, Path]) -> None:
    """Each schema compiles at the strictest level that supports it."""
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(folders["qwen2"])
    grammar_tokenizer = make_tokenizer(tokenizer, len(tokenizer.get_vocab()))
    levels = {
        name: compile_schema(schema, grammar_tokenizer).level for name, schema in SCHEMAS.items()
    }
    assert levels == LEVELS


@pytest.mark.parametrize(("family", "copies"), [("phi3", 1), ("qwen2", 2), ("qwen3", 1)])
async def test_answers_fit_the_schema(
    family: Family, copies: int, folders: dict[str, Path]
) -> None:
    """Every answer fits its schema, and its details name the level.

    Below the strict level, an answer that does not fit the schema is an error.
    """
    model = async_local_model(folders[family], f"mlx/structured-{family}")

    async def ask(name: str, copy: int) -> str:
        response = model.prompt(f"{name} {copy}", schema=SCHEMAS[name], **HOT)
        try:
            text = await response.text()
        except RequestError as error:
            return str(error)
        jsonschema.validate(json.loads(text), SCHEMAS[name])
        assert details(response)["schema_level"] == LEVELS[name]
        assert details(response)["finish_reason"] == "stop"
        return "valid"

    prompts = [(name, copy) for name in SCHEMAS for copy in range(copies)]
    outcomes = await asyncio.gather(*(ask(*each) for each in prompts))
    for (name, _), outcome in zip(prompts, outcomes, strict=True):
        if outcome != "valid":
            endless = name in ENDLESS and "was cut off after 100 tokens" in outcome
            assert endless or (name not in STRICT and "does not fit the schema" in outcome), name
    assert outcomes.count("valid") >= copies * (len(STRICT) - len(ENDLESS))


any_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=4)
# Beyond these, not every integer is a 64-bit float; test_structured_errors has those.
exact_integers = st.integers(-(2**53), 2**53)
simple = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "string", "maxLength": 4}]),
    st.sampled_from(["^[a-c]{1,3}$", "^(do|re|mi)$", "^é?[0-9]$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.tuples(st.integers(-999, 999), st.integers(0, 999)).map(
        lambda range_: {"type": "integer", "minimum": range_[0], "maximum": sum(range_)}
    ),
    st.lists(any_text | exact_integers | st.none(), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    any_text.map(lambda value: {"const": [value, {value: value}]}),
)


def larger(smaller: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """Return a strategy for arrays, objects with optional properties, and choices."""
    array = st.tuples(smaller, st.integers(0, 1), st.integers(1, 2)).map(
        lambda drawn: {
            "type": "array",
            "items": drawn[0],
            "minItems": drawn[1],
            "maxItems": drawn[2],
        }
    )
    named = st.dictionaries(any_text, smaller, min_size=1, max_size=3)
    record_ = st.tuples(named, st.integers(0, 3)).map(
        lambda drawn: {**record(**drawn[0]), "required": list(drawn[0])[: drawn[1]]}
    )
    choice = st.lists(smaller, min_size=2, max_size=2).map(lambda drawn: {"anyOf": drawn})
    return array | record_ | choice


any_schema = st.recursive(simple, larger, max_leaves=5)


def test_large_integers(async_model: AsyncMlxModel) -> None:
    """A large integer that a 64-bit float represents exactly can be a value of a schema."""

    async def ask(schema: Schema) -> Any:
        return json.loads(await async_model.prompt("Go.", schema=schema).text())

    assert asyncio.run(ask({"enum": [2**60]})) == 2**60
    assert asyncio.run(ask({"const": [-(2**53)]})) == [-(2**53)]


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(schemas=st.lists(any_schema, min_size=6, max_size=6))
def test_any_schema(async_model: AsyncMlxModel, schemas: list[Schema]) -> None:
    """Answers to any combination of schemas are valid, at the strict level."""

    async def ask(schema: Schema) -> None:
        response = async_model.prompt("Go.", schema=schema, temperature=1, max_tokens=600)
        jsonschema.validate(json.loads(await response.text()), schema)
        assert details(response)["schema_level"] == "strict"

    async def ask_all() -> None:
        await asyncio.gather(*map(ask, schemas))

    asyncio.run(ask_all())


class Clef(Enum):
    """The clef of a piece."""

    TREBLE = "treble"


class Note(BaseModel, extra="forbid"):
    """A note of a piece."""

    name: Literal["C", "D", "E"]
    octave: int = Field(ge=0, le=8)
    tied: bool = False


class Piece(BaseModel, extra="forbid"):
    """A piece of music."""

    title: str = Field(max_length=8)
    clef: Clef
    notes: list[Note] = Field(min_length=1, max_length=2)
    tempo: int | None = Field(default=None, gt=20, lt=300)
    refrain: Note | None


async def test_pydantic_models(async_model: AsyncMlxModel) -> None:
    """All answers to a nested Pydantic model can be parsed as one."""

    async def ask(number: int) -> str:
        response = async_model.prompt(str(number), schema=Piece, temperature=1, max_tokens=300)
        return await response.text()

    for text in await asyncio.gather(*map(ask, range(8))):
        Piece.model_validate_json(text)


async def test_others_in_the_batch(async_model: AsyncMlxModel) -> None:
    """Requests with and without schemas get the same answers in a batch and alone."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 40}
    schemas = [None, STRICT["record"], None, STRICT["pattern"], None, STRICT["date"]]

    async def ask(number: int) -> str:
        return await async_model.prompt(f"{number}", schema=schemas[number], **options).text()

    together = await asyncio.gather(*map(ask, range(len(schemas))))
    assert together == [await ask(number) for number in range(len(schemas))]
    for text, schema in zip(together, schemas, strict=True):
        if schema:
            jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("option", [{"repetition_penalty": 5}, {"seed": 0}], ids=str)
def test_other_options(option: dict[str, Any], models: dict[str, llm.Model]) -> None:
    """The schema applies with a repetition penalty and with a seed."""
    schema: Schema = {"type": "array", "items": {"const": "la"}, "minItems": 5, "maxItems": 5}
    text = models["qwen2"].prompt("Sing.", schema=schema, **option, **HOT).text()
    assert json.loads(text) == ["la"] * 5


def test_pattern_that_python_does_not_know(models: dict[str, llm.Model]) -> None:
    r"""A pattern such as \p{Lu} guides the model although Python's `re` lacks it."""
    schema: Schema = {"type": "string", "pattern": r"^\p{Lu}{2}$"}
    text = json.loads(models["qwen2"].prompt("Go.", schema=schema, **HOT).text())
    assert len(text) == 2
    assert text.isupper()


def test_no_reasoning_before_json(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """With a schema, a model does not reason first unless the request says so."""
    scripts.say(free=True)
    assert json.loads(models["qwen3"].prompt("Go.", schema=DIGIT).text()) in range(10)
    assert scripts.prompts[0].endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("name", "reasoning"),
    [("qwen3", "<think>Any digit?\n12345, no.</think>"), ("opening", "Any {digit}?</think>")],
)
def test_reasoning_before_json(
    name: str, reasoning: str, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """The reasoning is unconstrained, and the schema applies after it."""
    scripts.say(reasoning, free=True)
    response = models[name].prompt("Go.", schema=STRICT["odd names"], thinking=True)
    kinds = {"reasoning": "", "text": ""}
    for event in response.stream_events():
        kinds[event.type] += event.chunk
    assert kinds["reasoning"] == reasoning.removeprefix("<think>").removesuffix("</think>")
    jsonschema.validate(json.loads(kinds["text"]), STRICT["odd names"])
    assert details(response)["schema_level"] == "strict"


def test_tiered_keeps_the_level(folders: dict[str, Path], config_file: Path) -> None:
    """`tiered` passes the schema on, and its details keep the level."""
    models = [{"id": "structured-tier", "path": str(folders["phi3"])}]
    tiers = [{"name": "all", "complexity": "1-10", "model": "mlx/structured-tier"}]
    config_file.write_text(json.dumps({"models": models, "tiers": tiers}))
    response = llm.get_model("tiered").prompt("Go.", schema=COERCED["one of records"])
    jsonschema.validate(json.loads(response.text()), COERCED["one of records"])
    assert details(response)["response"]["schema_level"] == "coerce"
