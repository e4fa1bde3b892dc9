"""What models think before they answer: apart from the answer, on demand, or not at all."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from tests.tiny_models import QWEN3_TEMPLATE, build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

# `opening` begins the thinking in the prompt, as the templates of models that always think do.
THINKER, OPENING, PLAIN = "mlx/thinking", "mlx/thinking-opening", "mlx/thinking-plain"
OPENED = QWEN3_TEMPLATE.replace(
    '"<|im_start|>assistant\\n"', '"<|im_start|>assistant\\n<think>\\n"'
)
NO_THOUGHTS = "<think>\n\n</think>\n\n"

Events = list[tuple[str, str]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give a model that can think, one whose prompt begins the thinking, and one that can't."""
    root = tmp_path_factory.mktemp("thinking")
    thinker = build("qwen3", root / "qwen3", layers=1)
    opening = shutil.copytree(thinker, root / "opening")
    (opening / "chat_template.jinja").write_text(OPENED)
    return {
        THINKER: thinker,
        OPENING: opening,
        PLAIN: build("qwen2", root / "qwen2", layers=1),
    }


@pytest.fixture(autouse=True)
def _registered(folders: dict[str, Path], config_file: Path) -> None:
    """Let the config name them."""
    models = [{"id": name, "path": str(path)} for name, path in folders.items()]
    config_file.write_text(json.dumps({"models": models}))


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, llm.Model]:
    """Give them as llm's models. To ask llm for one takes it a tenth of a second."""
    specs = [ModelSpec(model_id=name, path=folder) for name, folder in folders.items()]
    return {spec.model_id: MlxModel(spec, Limits, lambda _: None) for spec in specs}


def events(model: llm.Model, **said: Any) -> Events:
    """Ask a model; gives kind and text of what comes, neighbours of one kind put together."""
    found: Events = []
    for event in model.prompt("Hello", **said).stream_events():
        if found and found[-1][0] == event.type:
            found[-1] = (event.type, found[-1][1] + event.chunk)
        else:
            found.append((event.type, event.chunk))
    return found


SAID: dict[str, tuple[tuple[str, ...], Events]] = {
    "thoughts and an answer": (
        ("<think>\nHe greets.\n</think>\n\nHi!",),
        [("reasoning", "\nHe greets.\n"), ("text", "Hi!")],
    ),
    "markers in several tokens": (
        ("<th", "ink>He greets.</", "thi", "nk>Hi!"),
        [("reasoning", "He greets."), ("text", "Hi!")],
    ),
    "never closed": (("<think>\nHe greets, and",), [("reasoning", "\nHe greets, and")]),
    "closed at the end": (("<think>He greets.</think>",), [("reasoning", "He greets.")]),
    "no thoughts": (("<think>\n\n</think>\n\nHi!",), [("reasoning", "\n\n"), ("text", "Hi!")]),
    "no markers": (("Hi!",), [("text", "Hi!")]),
    "twice": (
        ("<think>One</think>A <think>two</think>B",),
        [("reasoning", "One"), ("text", "A "), ("reasoning", "two"), ("text", "B")],
    ),
    "half a marker": (("a </", "think", " b <thi"), [("text", "a </think b <thi")]),
    "half a marker in the thoughts": (
        ("<think>a </", "thin", "g> b</think>c"),
        [("reasoning", "a </thing> b"), ("text", "c")],
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_thoughts_are_no_answer(case: str, models: dict[str, llm.Model], scripts: Scripts) -> None:
    """What stands between the markers comes as reasoning, the rest as text, the markers not."""
    pieces, expected = SAID[case]
    scripts.say(*pieces)
    assert events(models[THINKER]) == expected


@pytest.mark.parametrize("case", ["thoughts and an answer", "never closed"])
async def test_async_thoughts(case: str, scripts: Scripts) -> None:
    """An async model tells thoughts and answer apart in the same way."""
    pieces, expected = SAID[case]
    scripts.say(*pieces)
    response = llm.get_async_model(THINKER).prompt("Hello")
    found = {"reasoning": "", "text": ""}
    async for event in response.astream_events():
        found[event.type] += event.chunk
    assert list(found.items()) == [*expected, ("text", "")][:2]
    assert await response.text() == found["text"]


def test_thoughts_cut_off(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """Thoughts that max_tokens cuts off are no answer, and the details say why it ended."""
    scripts.say("<think>He greets, and so on and on")
    response = models[THINKER].prompt("Hello", max_tokens=5)
    assert response.text() == ""
    details: Any = response.response_json
    assert details["finish_reason"] == "length"


def test_hide_reasoning(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """With hide_reasoning only the answer comes."""
    scripts.say("<think>He greets.</think>Hi!")
    assert events(models[THINKER], hide_reasoning=True) == [("text", "Hi!")]


def test_command_line(scripts: Scripts) -> None:
    """`llm -m` prints the answer to stdout and the thoughts elsewhere, or nowhere with -R."""
    for _ in range(2):
        scripts.say("<think>He greets.</think>\n\nHi!")
    shown = CliRunner().invoke(cli, ["-n", "-m", THINKER, "Hello"])
    assert (shown.stdout, "He greets." in shown.stderr) == ("Hi!\n", True)
    hidden = CliRunner().invoke(cli, ["-n", "-m", THINKER, "-R", "Hello"])
    assert (hidden.stdout, hidden.stderr) == ("Hi!\n", "")


def test_stop_string_in_the_thoughts(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """A stop string ends the answer, not the thoughts."""
    scripts.say("<think>First, he greets.</think>First, hi!")
    assert events(models[THINKER], stop=",") == [
        ("reasoning", "First, he greets."),
        ("text", "First"),
    ]


@pytest.mark.parametrize(
    ("options", "ending"),
    [({}, "assistant\n"), ({"thinking": 1}, "assistant\n"), ({"thinking": 0}, NO_THOUGHTS)],
    ids=str,
)
def test_thinking_on_demand(
    options: dict[str, Any], ending: str, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """`-o thinking 0` tells the template that nothing is to be thought."""
    scripts.say("Hi!")
    assert events(models[THINKER], **options) == [("text", "Hi!")]
    assert scripts.read[0].endswith(ending)


def test_thinking_off_for_a_model_that_never_does(
    models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """A model that can't think takes the option and answers as ever."""
    scripts.say("<think>Hi!")
    assert events(models[PLAIN], thinking=0) == [("text", "<think>Hi!")]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (("He greets.\n</think>\n\nHi!",), [("reasoning", "He greets.\n"), ("text", "Hi!")]),
        (("He greets.</th", "ink>Hi!"), [("reasoning", "He greets."), ("text", "Hi!")]),
        (("He greets, and",), [("reasoning", "He greets, and")]),
        (("</think>\n\nHi!",), [("text", "Hi!")]),
    ],
    ids=str,
)
def test_prompt_begins_the_thinking(
    pieces: tuple[str, ...], expected: Events, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """Where the template begins the thinking, the model's first words are thoughts."""
    scripts.say(*pieces)
    assert events(models[OPENING]) == expected
    assert scripts.read[0].endswith("<think>\n")


def test_thoughts_stay_out_of_the_conversation(
    models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """The next turn reads the answer of the last one, and none of its thoughts."""
    scripts.say("<think>He greets.</think>\n\nHi!")
    scripts.say("Then this.")
    conversation = models[THINKER].conversation()
    assert conversation.prompt("Hello").text() == "Hi!"
    assert conversation.prompt("And then?").text() == "Then this."
    assert scripts.read[1].count("<|im_start|>assistant\nHi!<|im_end|>") == 1
    assert "He greets" not in scripts.read[1]


def test_thoughts_before_a_tool_call(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """A model that thinks first may call a tool then; what it thinks of calling is none."""
    call = '<tool_call>{"name": "greet", "arguments": {}}</tool_call>'
    scripts.say(f"<think>Shall I write {call}? Yes.</think>\n\n{call}")
    scripts.say("<think>Done.</think>Hi!")
    greeted: list[str] = []

    def greet() -> str:
        greeted.append("Hi!")
        return "greeted"

    assert models[THINKER].chain("Hello", tools=[greet]).text() == "Hi!"
    assert greeted == ["Hi!"]
