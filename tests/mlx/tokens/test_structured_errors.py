"""Schemas that can't guide a model, and answers that end before their JSON is complete."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import EmptyAnswer, RequestError
from tests.mlx.models import local_model
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

Schema = dict[str, Any]

FAMILIES: tuple[Family, ...] = ("qwen2", "qwen3")

HOT: dict[str, Any] = {"temperature": 1, "max_tokens": 100}
DIGIT: Schema = {"type": "integer", "minimum": 0, "maximum": 9}

GUIDE = "this schema can't be used to guide a local model: "

IMPOSSIBLE: dict[str, tuple[Schema, str]] = {
    "contradiction": (
        {"type": "integer", "minimum": 5, "maximum": 3},
        f"{GUIDE}Unsatisfiable schema: minimum .*maximum",
    ),
    "lengths": (
        {"type": "string", "minLength": 5, "maxLength": 3},
        rf"{GUIDE}Unsatisfiable schema: minLength \(5\) is greater",
    ),
    "pattern and length": (
        {"type": "string", "pattern": "^(?=a)a{5}$", "maxLength": 3},
        f"{GUIDE}Unsatisfiable schema: Regex is empty",
    ),
    "enum of another type": (
        {"type": "string", "enum": [1, 2]},
        f"{GUIDE}Unsatisfiable schema: incompatible types",
    ),
    "empty enum": ({"enum": []}, f"{GUIDE}Unsatisfiable schema: anyOf is empty"),
    "nothing": ({"not": {}}, f"{GUIDE}Unsatisfiable schema: schema is false"),
    "impossible property": (
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        f"{GUIDE}Unsatisfiable schema: .*'a' is unsatisfiable",
    ),
    "neither of two": (
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        f"{GUIDE}Unsatisfiable schema: incompatible types",
    ),
    "loop of references": (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        "the schema is not usable: it refers to itself without end",
    ),
    "itself required": (
        {
            "type": "object",
            "properties": {"left": {"type": "array", "items": {"$ref": "#"}, "minItems": 1}},
            "required": ["left"],
        },
        f"{GUIDE}only JSON without end would fit it",
    ),
    "integer that no float has": (
        {"type": "array", "items": {"enum": ["a", 2**53 + 1]}},
        f"{GUIDE}the mask would round 9007199254740993",
    ),
    "constant that no float has": (
        {"const": {"a": [-(10**400)]}},
        f"{GUIDE}the mask would round -1000000",
    ),
    "float that is no integer as it is written": (
        {"enum": [1e22, 1e23]},
        f"{GUIDE}the mask would round 100000000000000000000000$",
    ),
    "impossible where it is referred to": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "enum": [1]}}},
        f"{GUIDE}Unsatisfiable schema: incompatible types$",
    ),
    "broken pattern": (
        {"type": "string", "pattern": "("},
        r"the schema is not usable: the pattern \( is not valid: missing \)",
    ),
    "no such reference": (
        {"$ref": "#/$defs/none"},
        "the schema is not usable: it refers to #/\\$defs/none, which is not in it",
    ),
    "reference elsewhere": (
        {"$ref": "http://127.0.0.1:9/s.json"},
        "the schema is not usable: it refers to http://127.0.0.1:9/s.json, which is not in it",
    ),
    "no such type": ({"type": "strin"}, "the schema is not a valid JSON Schema: 'strin' is not"),
    "properties in a list": (
        {"type": "object", "properties": ["a"]},
        r"the schema is not a valid JSON Schema: \['a'\] is not of type 'object'",
    ),
    "wrong where the mask does not look": (
        {**DIGIT, "not": {"minimum": "x"}},
        "the schema is not a valid JSON Schema: 'x' is not of type 'number'",
    ),
    "no reference where the mask does not look": (
        {**DIGIT, "not": {"$ref": "#/none"}},
        "the schema is not usable: it refers to #/none",
    ),
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
    schema, message = IMPOSSIBLE[case]
    with pytest.raises(RequestError, match=message) as refused:
        next(iter(models["qwen2"].prompt("Go.", schema=schema, **HOT)))
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
    assert connections == []


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
    with pytest.raises(EmptyAnswer, match="only thoughts, cut off at max_tokens"):
        models["qwen3"].prompt("Go.", schema=DIGIT, thinking=True, max_tokens=8).text()


def test_reasoning_without_json(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """If a model ends its turn before the JSON, it is an error."""
    scripts.say("<think>Well.")
    with pytest.raises(EmptyAnswer, match="only thoughts, and no answer"):
        models["qwen3"].prompt("Go.", schema=DIGIT, thinking=True).text()


def test_json_without_reasoning(models: dict[str, llm.Model]) -> None:
    """A model that is allowed to think but does not writes valid JSON all the same."""
    answer = models["qwen3"].prompt("Go.", schema=DIGIT, thinking=True, **HOT).text()
    assert json.loads(answer) in range(10)
