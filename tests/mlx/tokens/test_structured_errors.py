"""Schemas that can't guide a model, and answers that end before their JSON is complete."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import RequestError, TieredError
from tests.mlx.models import local_model
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

Schema = dict[str, Any]

FAMILIES: tuple[Family, ...] = ("qwen2", "qwen3")

HOT: dict[str, Any] = {"temperature": 1, "max_tokens": 100}
DIGIT: Schema = {"type": "integer", "minimum": 0, "maximum": 9}

IMPOSSIBLE: dict[str, tuple[Schema, str]] = {
    "look-ahead": ({"type": "string", "pattern": "^(?=a)a+$"}, r"\^\(\?=a\)a\+\$.*look-around"),
    "broken pattern": ({"type": "string", "pattern": "("}, "unclosed group"),
    "contradiction": ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum .*maximum"),
    "impossible property": (
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        "'a' is unsatisfiable",
    ),
    "no such reference": ({"$ref": "#/$defs/none"}, "/\\$defs/none"),
    "reference elsewhere": ({"$ref": "http://127.0.0.1:9/s.json"}, "http://127.0.0.1:9/s.json"),
    "no such type": ({"type": "strin"}, "strin"),
    "properties in a list": ({"type": "object", "properties": ["a"]}, "properties must be"),
    "integer that no float has": (
        {"type": "array", "items": {"enum": ["a", 2**53 + 1]}},
        "the mask would round 9007199254740993",
    ),
    "constant that no float has": ({"const": {"a": [-(10**400)]}}, "would round -1000000"),
    "neither of two": ({"allOf": [{"type": "string"}, {"type": "null"}]}, "incompatible types"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, llm.Model]:
    """Two models, as llm sees them."""
    root = tmp_path_factory.mktemp("structured")
    models: dict[str, llm.Model] = {}
    for family in FAMILIES:
        folder = build(family, root / family, layers=1, context=4096)
        models[family] = local_model(folder, f"mlx/structured-{family}")
    return models


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_schema_that_can_not_be_used(
    case: str,
    models: dict[str, llm.Model],
    capfd: pytest.CaptureFixture[str],
    connections: list[Any],
) -> None:
    """A schema that can't guide a model is refused in one line that says why."""
    schema, named = IMPOSSIBLE[case]
    with pytest.raises(RequestError, match=f"this schema can't be used.*{named}") as refused:
        next(iter(models["qwen2"].prompt("Go.", schema=schema, **HOT)))
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
    assert connections == []


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (
            {**DIGIT, "not": {"minimum": "x"}},
            "the schema is not a valid JSON Schema: 'x' is",
        ),
        ({**DIGIT, "not": {"$ref": "#/none"}}, "the schema is not usable: it refers to .*/none"),
    ],
    ids=["wrong", "no such reference"],
)
def test_schema_that_can_not_be_checked(
    schema: Schema, named: str, models: dict[str, llm.Model]
) -> None:
    """If a keyword that the grammar ignores is invalid, the error says so."""
    with pytest.raises(TieredError, match=named):
        models["qwen2"].prompt("Go.", schema=schema, **HOT).text()


def test_cut_off(models: dict[str, llm.Model]) -> None:
    """JSON that max_tokens cuts off is an error; JSON that is just complete is not."""
    schema: Schema = {"const": {"abc": ["def", 12]}}
    model = models["qwen2"]
    complete = model.prompt("Go.", schema=schema, max_tokens=100)
    assert json.loads(complete.text()) == schema["const"]
    tokens = complete.usage().output
    assert tokens
    for limit in range(1, tokens - 1):
        with pytest.raises(RequestError) as failed:
            model.prompt("Go.", schema=schema, max_tokens=limit).text()
        expected = f"the JSON was cut off after {limit} tokens (raise max_tokens)"
        assert str(failed.value) == expected
    # The last token only ends the turn.
    assert model.prompt("Go.", schema=schema, max_tokens=tokens - 1).text() == complete.text()


def test_number_cut_off(models: dict[str, llm.Model]) -> None:
    """A number that might continue is cut off too, although its digits are valid JSON."""
    schema: Schema = {"type": "integer", "minimum": 10**12}
    with pytest.raises(RequestError, match="cut off after 3 tokens"):
        models["qwen2"].prompt("Go.", schema=schema, max_tokens=3).text()


def test_stop_string(models: dict[str, llm.Model]) -> None:
    """JSON that a stop string cuts off is an error; a stop string that never occurs is ignored."""
    schema: Schema = {"const": {"abc": "def"}}
    with pytest.raises(RequestError, match="the JSON was cut off by a stop string"):
        models["qwen2"].prompt("Go.", schema=schema, stop="de").text()
    assert models["qwen2"].prompt("Go.", schema=schema, stop="xyz").text() == '{"abc":"def"}'


def test_tools_and_schema(models: dict[str, llm.Model]) -> None:
    """A request with both tools and a schema is refused."""

    def now() -> str:
        return "noon"

    with pytest.raises(RequestError, match="can't combine tools with a schema"):
        models["qwen2"].prompt("Go.", schema=DIGIT, tools=[llm.Tool.function(now)]).text()


def test_reasoning_cut_off(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """Reasoning that leaves no room for the JSON is an error that says what to do."""
    scripts.say("<think>Which of them, now? Let me think about that.", free=True)
    with pytest.raises(RequestError, match=r"cut off after 8 tokens.*max_tokens"):
        models["qwen3"].prompt("Go.", schema=DIGIT, thinking=True, max_tokens=8).text()


@pytest.mark.parametrize("script", ["<think>Well.", "", "No."])
def test_reasoning_without_json(
    script: str, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """If a model ends its turn before the JSON, it is an error."""
    scripts.say(script)
    with pytest.raises(TieredError, match="mlx/structured-qwen3 ended its turn before"):
        models["qwen3"].prompt("Go.", schema=DIGIT, thinking=True).text()
