"""A schema means the same on every tier: a local model's mask, and the check of any answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from llm.parts import TextPart

from llm_tiered.errors import RequestError, SchemaMiss, TieredError
from llm_tiered.mlx.tokens.structured import Constraint
from tests import gemini
from tests.tiny_models import build
from tests.toys import MEDIUM, TIERS

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.mlx.scripted import Scripts
    from tests.toys import Ask, Toys

pytest_plugins = ("tests.mlx.scripted",)

DOG = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}
FITS = '{"age":3}'

TINY = "mlx/tiny-schemas"

# A schema, a value that fits it, and one that does not.
SCHEMAS: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "cents": ({"type": "number", "multipleOf": 0.01}, 4.35, 4.355),
    "tuple": (
        {"items": [{"type": "integer"}, {"type": "string"}], "minItems": 2},
        [1, "a"],
        ["a", 1],
    ),
    "look-ahead": ({"type": "string", "pattern": r"^(?=.*\d)[a-z\d]+$"}, "a1", "ab"),
    "words": ({"type": "string", "pattern": r"\bcat\b"}, "a cat", "concat"),
    "capitals": ({"type": "string", "pattern": r"^\p{Lu}+$"}, "AB", "ab"),
    "nullable": ({"type": "string", "enum": ["a"], "nullable": True}, None, "b"),
    "Gemini's types": (
        {"type": "OBJECT", "properties": {"a": {"type": "NULL"}}},
        {"a": None},
        {"a": 1},
    ),
    "exclusive": ({"type": "integer", "minimum": 0, "exclusiveMinimum": True}, 1, 0),
    "any draft": ({"$schema": "https://127.0.0.1:9/none", "type": "null"}, None, 1),
    "definitions": ({"$ref": "#/definitions/a", "definitions": {"a": {"type": "null"}}}, None, 1),
    "unique": ({"items": {"enum": [1, 2]}, "type": "array", "uniqueItems": True}, [1, 2], [1, 1]),
    "condition": ({"if": {"type": "string"}, "then": {"minLength": 2}}, "ab", "a"),
    "guidance": ({"x-guidance": {"lenient": True, "no": 1}, "type": "integer"}, 1, "a"),
    "names": ({"dependencies": {"a": ["b"]}, "type": "object"}, {"a": 1, "b": 2}, {"a": 1}),
    "at least one": (
        {"properties": {"a": {}, "b": {}}, "type": "object", "minProperties": 1},
        {"b": 1},
        {},
    ),
    "top-level list": ({"type": "array", "items": {"type": "boolean"}}, [True], [1]),
    "null": ({"const": None}, None, 0),
    "any of": ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True, 1),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return build("qwen2", tmp_path_factory.mktemp("tiny") / "qwen2", layers=1)


@pytest.fixture
def tiny(toys: Toys, folder: Path) -> str:
    """The tiny model as the small tier."""
    toys.medium.schemas = True
    toys.configure(
        models=[{"id": TINY, "path": str(folder)}],
        tiers=[TIERS[0] | {"model": TINY}, *TIERS[1:]],
        fallback="local",
    )
    return TINY


@pytest.mark.usefixtures("tiny")
async def test_every_tier_accepts_the_same(
    ask: Ask, toys: Toys, scripts: Scripts, connections: list[Any]
) -> None:
    """What fits a schema is an answer on each tier, what does not is one on none."""
    wrong = []
    for name, (schema, right, bad) in SCHEMAS.items():
        for tier in ("small", "medium"):
            toys.medium.does = [json.dumps(right)]
            if tier == "small":
                scripts.say(json.dumps(right, separators=(",", ":")))
            response = await ask("Go", tier=tier, schema=schema, fallback="none")
            if json.loads(response.text_or_raise()) != right:
                wrong.append((name, tier, "fits"))
        toys.medium.does = [json.dumps(bad)]
        with pytest.raises(TieredError) as refused:
            await ask("Go", tier="medium", schema=schema, fallback="none")
        if "the answer does not fit the schema" not in str(refused.value):
            wrong.append((name, "medium", str(refused.value)))
    assert wrong == []
    assert connections == []


async def test_a_miss_is_given_back_once(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A model that misses the schema is shown its answer, the mistake and the schema."""
    toys.medium.schemas = True
    toys.medium.does, toys.medium.then = ['{"age": "old"}'], [FITS]
    for _ in range(2):
        gemini.answer(httpx_mock, gemini.last(gemini.text("A dog, three years old.")))
    gemini.answer(httpx_mock, gemini.last(gemini.text(FITS)))

    response = await ask("Invent a dog", tier="medium", schema=DOG)
    assert response.text_or_raise() == FITS
    assert [each["outcome"] for each in response.response_json["tiered"]["attempts"]] == ["ok"]
    answer, correction = toys.medium.prompts[1].messages[-2:]
    assert (answer.role, correction.role) == ("assistant", "user")
    [part] = correction.parts
    assert isinstance(part, TextPart)
    said = part.text
    assert said.startswith("the answer does not fit the schema at $.age: ")
    assert json.loads(said.partition("this schema: ")[2]) == DOG

    # The second miss is a failed attempt, and another model answers.
    toys.medium.prompts.clear()
    toys.medium.does = [FITS]
    response = await ask("Invent a dog", tier="cloud", schema=DOG)
    assert response.resolved_model == MEDIUM
    attempt = response.response_json["tiered"]["attempts"][0]
    assert (attempt["outcome"], attempt["reason"][:22]) == ("failed", "the answer is not JSON")
    response = await ask("Invent a dog", tier="cloud", schema=DOG)
    assert (response.resolved_model, response.text_or_raise()) == (gemini.MODEL, FITS)


@pytest.mark.usefixtures("tiny")
async def test_a_local_miss_is_given_back(
    ask: Ask, scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a local model, should its mask let a miss through."""
    answers = iter([SchemaMiss("the answer does not fit the schema at $: it is old")])

    def validate(text: str, schema: Any) -> None:
        for miss in answers:
            raise miss

    monkeypatch.setattr("llm_tiered.json_schema.validate", validate)
    for _ in range(2):
        scripts.say(FITS)
    response = await ask("Go", tier="small", schema=DOG, fallback="none")
    assert json.loads(response.text_or_raise()) == json.loads(FITS)
    assert [each["outcome"] for each in response.response_json["tiered"]["attempts"]] == ["ok"]


async def test_a_dead_end(ask: Ask, tiny: str, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a mask allows no token, the next tier answers, and the model is asked again next time."""

    def stuck(*_: Any, **__: Any) -> Any:
        raise RequestError("the schema can't guide this model to its end")

    schema = {"type": "integer"}
    toys.medium.does = ["7", "7"]
    with monkeypatch.context() as patch:
        patch.setattr(Constraint, "_masked", stuck)
        for _ in range(2):
            response = await ask("Go", tier="small", schema=schema)
            assert response.resolved_model == MEDIUM
            attempt = response.response_json["tiered"]["attempts"][0]
            assert (attempt["model"], attempt["outcome"]) == (tiny, "failed")
            assert attempt["reason"] == "the schema can't guide this model to its end"


@pytest.mark.usefixtures("tiny")
async def test_an_empty_schema(ask: Ask, toys: Toys, scripts: Scripts) -> None:
    """An empty schema is none, on every tier, as it is to llm."""
    toys.medium.does = ["Hello"]
    scripts.say("Hello")
    for tier in ("small", "medium"):
        response = await ask("Go", tier=tier, schema={}, fallback="none")
        assert response.text_or_raise() == "Hello"
