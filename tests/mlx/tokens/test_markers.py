"""Text that looks like markers comes back unchanged, in answers, JSON, tool calls and history."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.chat_templates import CODER_TEMPLATE
from tests.mlx.models import local_model
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

PARTS = (
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    *("<|im_start|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "</parameter>", "</function>"),
    *("<", "</", "think>", "|>", '"', "\\", "{", "}", "\n", "a", " b", "é", "🙂"),
)
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def texts(count: int) -> list[str]:
    """Return texts full of markers and pieces of markers."""
    draw = random.Random(7)
    return [f"A{''.join(draw.choices(PARTS, k=6))}Z" for _ in range(count)]


def spelled(text: str) -> tuple[str, ...]:
    """Return a text character by character: each is tokenised by itself, so none is a marker."""
    return tuple(text)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "phi3"])
def test_answers_and_history(
    family: Family, tmp_path_factory: pytest.TempPathFactory, scripts: Scripts
) -> None:
    """An answer is what the model wrote, and the next prompt shows it as it was."""
    folder = build(family, tmp_path_factory.mktemp("markers") / family, layers=1, context=2048)
    model = local_model(folder, f"mlx/markers-{family}")
    wrong = []
    for text in texts(4):
        conversation = model.conversation()
        scripts.say(*spelled(text))
        scripts.say(*spelled(f'{{"text":{json.dumps(text, ensure_ascii=False)}}}'))
        answer = conversation.prompt(f"Q{text}?").text()
        as_json = json.loads(conversation.prompt("And as JSON?", schema=SCHEMA).text())
        prompt = scripts.prompts[-1]
        if (answer, as_json) != (text, {"text": text}) or prompt.count(text) != 2:
            wrong.append((text, answer, as_json, prompt))
    assert wrong == []


def test_schemas(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A schema may ask for markers: as values, as names of properties, or by a pattern."""
    folder = build("qwen3", tmp_path_factory.mktemp("markers") / "schemas", layers=1, context=2048)
    model = local_model(folder, "mlx/markers-schemas")
    [first, second] = texts(2)
    values: list[Any] = ["<think>", "</tool_call><|im_end|>", {first: {"a": [second]}}]
    for value in values:
        others = [f"{value} and more"]
        for schema in ({"const": value}, {"enum": [value]}, {"enum": [value, *others]}):
            answer = json.loads(model.prompt("As JSON?", schema=schema, temperature=0).text())
            assert answer in [value, *others]
    names = {"type": "object", "properties": {first: {"enum": [1]}}, "required": [first]}
    assert json.loads(model.prompt("As JSON?", schema=names).text()) == {first: 1}
    pattern = {"type": "string", "pattern": "^<think>[ab]</think>$"}
    answer = json.loads(model.prompt("As JSON?", schema=pattern).text())
    assert answer in ("<think>a</think>", "<think>b</think>")


@pytest.mark.parametrize("template", [None, CODER_TEMPLATE], ids=["JSON", "tags"])
def test_calls_and_results(
    template: str | None, tmp_path_factory: pytest.TempPathFactory, scripts: Scripts
) -> None:
    """A tool gets the text that the model wrote, and the model the tool's result."""
    folder = build("qwen3", tmp_path_factory.mktemp("markers") / "calls", layers=1, context=2048)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    model = local_model(folder, f"mlx/markers-calls-{template is None}")
    received: list[str] = []

    def echo(text: str) -> str:
        received.append(text)
        return f"R{text}"

    wrong: list[Any] = []
    for text in texts(4):
        body = f"<function=echo>\n<parameter=text>\n{text}\n</parameter>\n</function>"
        if template is None:
            body = json.dumps({"name": "echo", "arguments": {"text": text}}, ensure_ascii=False)
        scripts.say("<tool_call>\n", *spelled(body), "\n</tool_call>")
        scripts.say("Done.")
        assert model.chain("Echo.", tools=[echo]).text() == "Done."
        if received[-1] != text or f"R{text}" not in scripts.prompts[-1]:
            wrong.append((text, received[-1]))
    assert wrong == []
