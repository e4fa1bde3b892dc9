"""Reasoning before an answer: separated from it, on demand, or not at all."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import llguidance
import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.errors import EmptyAnswer
from llm_tiered.mlx.tokens.structured import compile_schema, make_constraint
from tests.chat_templates import QWEN2_TEMPLATE, QWEN3_TEMPLATE
from tests.mlx.models import local_model
from tests.mlx.tokens.thoughts import Events, events
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

# The template of `opening` opens the reasoning, like those of models that always reason.
THINKER, OPENING, PLAIN = "mlx/thinking", "mlx/thinking-opening", "mlx/thinking-plain"
# Has the markers in its vocabulary, but not in its template, like Qwen3-Coder.
NEVER = "mlx/thinking-never"
OPENED = QWEN3_TEMPLATE.replace(
    '"<|im_start|>assistant\\n"', '"<|im_start|>assistant\\n<think>\\n"'
)
EMPTY_REASONING = "<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a model that can reason, one whose template opens it, and one that can't."""
    root = tmp_path_factory.mktemp("thinking")
    thinker = build("qwen3", root / "qwen3", layers=1)
    opening = shutil.copytree(thinker, root / "opening")
    (opening / "chat_template.jinja").write_text(OPENED)
    never = shutil.copytree(thinker, root / "never")
    (never / "chat_template.jinja").write_text(QWEN2_TEMPLATE)
    return {
        THINKER: thinker,
        OPENING: opening,
        NEVER: never,
        PLAIN: build("qwen2", root / "qwen2", layers=1),
    }


@pytest.fixture(autouse=True)
def _registered(folders: dict[str, Path], config_file: Path) -> None:
    """Add these models in the config."""
    models = [{"id": name, "path": str(path)} for name, path in folders.items()]
    config_file.write_text(json.dumps({"models": models}))


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, llm.Model]:
    """The same models, as llm sees them."""
    return {name: local_model(folder, name) for name, folder in folders.items()}


CASES: dict[str, tuple[tuple[str, ...], Events]] = {
    "reasoning and an answer": (
        ("<think>\nHe greets.\n</think>\n\nHi!",),
        [("reasoning", "\nHe greets.\n"), ("text", "Hi!")],
    ),
    "markers in several tokens": (
        ("<th", "ink>He greets.</", "thi", "nk>Hi!"),
        [("text", "<think>He greets.</think>Hi!")],
    ),
    "end in several tokens": (
        ("<think>It ends with </", "think", ">.</think>So it is."),
        [("reasoning", "It ends with </think>."), ("text", "So it is.")],
    ),
    "only mentioned": (
        ("Write <think>", " first, then think."),
        [("text", "Write <think> first, then think.")],
    ),
    "empty reasoning": (("<think>\n\n</think>\n\nHi!",), [("reasoning", "\n\n"), ("text", "Hi!")]),
    "no markers": (("Hi!",), [("text", "Hi!")]),
    "twice": (
        ("<think>One</think>A <think>two</think>B",),
        [("reasoning", "One"), ("text", "A "), ("reasoning", "two"), ("text", "B")],
    ),
    "half a marker": (("a </", "think", " b <thi"), [("text", "a </think b <thi")]),
    "half a marker in the reasoning": (
        ("<think>a </", "thin", "g> b</think>c"),
        [("reasoning", "a </thing> b"), ("text", "c")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_reasoning_is_separate(case: str, models: dict[str, llm.Model], scripts: Scripts) -> None:
    """Text between the markers is reasoning, the rest is the answer; the markers are left out."""
    pieces, expected = CASES[case]
    scripts.say(*pieces)
    assert events(models[THINKER]) == expected


@pytest.mark.parametrize("case", ["reasoning and an answer", "twice"])
async def test_async(case: str, scripts: Scripts) -> None:
    """An async model separates reasoning and answer in the same way."""
    pieces, expected = CASES[case]
    scripts.say(*pieces)
    response = llm.get_async_model(THINKER).prompt("Hello")
    received = [(event.type, event.chunk) async for event in response.astream_events()]
    for kind in ("reasoning", "text"):
        assert _texts(received, kind) == _texts(expected, kind)
    assert await response.text() == _texts(expected, "text")


def _texts(pieces: Events, kind: str) -> str:
    return "".join(text for each, text in pieces if each == kind)


NO_ANSWER = {
    "cut off": ("<think>\n\nand", 2, "only thoughts, cut off at max_tokens (raise max_tokens)"),
    "cut off after them": (
        "<think></think>\n and",
        2,
        "no answer, cut off at max_tokens (raise max_tokens)",
    ),
    "nothing at all": ("", 9, "answered with nothing"),
    "white space": ("\n \n", 9, "answered with nothing"),
}


@pytest.mark.parametrize("case", NO_ANSWER)
def test_no_answer(case: str, models: dict[str, llm.Model], scripts: Scripts) -> None:
    """An answer without any text is an error that says what is missing; its tokens count."""
    script, limit, reason = NO_ANSWER[case]
    scripts.say(script)
    response = models[THINKER].prompt("Hello", max_tokens=limit)
    with pytest.raises(EmptyAnswer) as failed:
        response.text()
    assert str(failed.value) == reason
    assert response.input_tokens == scripts.prompt_tokens[0]


def test_context_is_full(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """If it is the context that cuts off the thoughts, raising max_tokens is not the advice."""
    scripts.say("<think>", free=True)
    with pytest.raises(EmptyAnswer, match=r"cut off where the context is full \(shorten"):
        models[THINKER].prompt("Hello " * 100, max_tokens=1000).text()


def test_call_inside_the_thoughts(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """A tool call inside the thoughts is not made, and without an answer the error says so."""

    def greet() -> str:
        return "Hi!"

    scripts.say('<think>Now: <tool_call>{"name": "greet", "arguments": {}}</tool_call>')
    with pytest.raises(EmptyAnswer, match="only thoughts, with a tool call in them"):
        models[THINKER].chain("Hello", tools=[greet]).text()
    scripts.say('<think>Now: <tool_call>{"name": "greet", "arguments": {}}</tool_call>')
    with pytest.raises(EmptyAnswer, match=r"only thoughts, cut off.*raise max_tokens"):
        models[THINKER].chain("Hello", tools=[greet], options={"max_tokens": 9}).text()


@pytest.mark.parametrize("name", [NEVER, THINKER])
def test_marker_as_an_answer(name: str, models: dict[str, llm.Model], scripts: Scripts) -> None:
    """A model that never thinks, or was told not to, means the marker's text."""
    scripts.say("<think>")
    scripts.say("It is ", "<think>", " and ", "</think>", ".")
    options = {} if name == NEVER else {"thinking": 0}
    assert events(models[name], **options) == [("text", "<think>")]
    assert events(models[name], **options) == [("text", "It is <think> and </think>.")]


def test_never_thinking_with_a_schema(models: dict[str, llm.Model]) -> None:
    """A model that never thinks writes JSON from the first token on, even if it is to think."""
    schema = {"type": "integer", "minimum": 0, "maximum": 9}
    text = models[NEVER].prompt("A digit?", schema=schema, thinking=1, temperature=1).text()
    assert json.loads(text) in range(10)


def test_json_after_thoughts_may_mention_them(
    models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """After the thoughts, JSON may contain both markers as text."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    scripts.say("<think>Yes.</think>", '{"a":"<', "think", "> and </", "think", '>"}')
    response = models[THINKER].prompt("How?", schema=schema, thinking=1)
    assert json.loads(response.text()) == {"a": "<think> and </think>"}


@pytest.mark.parametrize("stop", ["<think>", "think", "</"])
def test_stop_string_like_a_marker(
    stop: str, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """A stop string is looked for in the answer's text, not in markers."""
    scripts.say("<think>Hm, think: </", "thi", "nk>.</think>So <", "think", "> and </", "think>.")
    received = events(models[THINKER], stop=stop)
    text = "So <think> and </think>."
    assert received == [("reasoning", "Hm, think: </think>."), ("text", text[: text.index(stop)])]


def test_stop_string_leaves_nothing(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """An answer that a stop string leaves empty is what was asked for."""
    for script in ("None.", "<think>Which?</think>None."):
        scripts.say(script)
        assert models[THINKER].prompt("Which?", stop="None").text() == ""
    scripts.say("<think>None.")
    with pytest.raises(EmptyAnswer, match="only thoughts"):
        models[THINKER].prompt("Which?", stop="None").text()


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("name", [THINKER, OPENING])
def test_reasoning_cut_off(
    name: str, hidden: bool, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """If max_tokens cuts off the reasoning, the error says so; the tokens are counted."""
    scripts.say("<think>He greets, and so on and on")
    response = models[name].prompt("Hello", max_tokens=5, hide_reasoning=hidden)
    with pytest.raises(EmptyAnswer) as error:
        response.text()
    assert str(error.value) == "only thoughts, cut off at max_tokens (raise max_tokens)"
    assert response.output_tokens == 5
    details: Any = response.response_json
    assert details["finish_reason"] == "length"


@pytest.mark.parametrize(
    "script", ["<think>He greets", "<think>He greets.</think>", "<think>He greets.</think>\n\n"]
)
def test_reasoning_alone(script: str, models: dict[str, llm.Model], scripts: Scripts) -> None:
    """Reasoning without an answer after it is an error."""
    scripts.say(script)
    with pytest.raises(EmptyAnswer, match=r"^only thoughts, and no answer after them$"):
        models[THINKER].prompt("Hello").text()


def test_hide_reasoning(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """With hide_reasoning, only the answer is returned."""
    scripts.say("<think>He greets.</think>Hi!")
    assert events(models[THINKER], hide_reasoning=True) == [("text", "Hi!")]


def test_command_line(scripts: Scripts) -> None:
    """`llm -m` prints the answer to stdout and the reasoning to stderr, or nowhere with -R."""
    for _ in range(2):
        scripts.say("<think>He greets.</think>\n\nHi!")
    shown = CliRunner().invoke(cli, ["-n", "-m", THINKER, "Hello"])
    assert (shown.stdout, "He greets." in shown.stderr) == ("Hi!\n", True)
    hidden = CliRunner().invoke(cli, ["-n", "-m", THINKER, "-R", "Hello"])
    assert (hidden.stdout, hidden.stderr) == ("Hi!\n", "")


def test_stop_string_in_the_reasoning(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """A stop string ends the answer, not the reasoning."""
    scripts.say("<think>First, he greets.</think>First, hi!")
    assert events(models[THINKER], stop=",") == [
        ("reasoning", "First, he greets."),
        ("text", "First"),
    ]


@pytest.mark.parametrize(
    ("options", "ending"),
    [({}, "assistant\n"), ({"thinking": 1}, "assistant\n"), ({"thinking": 0}, EMPTY_REASONING)],
    ids=str,
)
def test_thinking_on_demand(
    options: dict[str, Any], ending: str, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """`-o thinking 0` makes the template skip the reasoning."""
    scripts.say("Hi!")
    assert events(models[THINKER], **options) == [("text", "Hi!")]
    assert scripts.prompts[0].endswith(ending)


def test_thinking_off_without_reasoning(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """For a model that can't reason, the option changes nothing."""
    scripts.say("<think>Hi!")
    assert events(models[PLAIN], thinking=0) == [("text", "<think>Hi!")]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (("He greets.\n</think>\n\nHi!",), [("reasoning", "He greets.\n"), ("text", "Hi!")]),
        (
            ("No </th", "ink> yet.</think>Hi!"),
            [("reasoning", "No </think> yet."), ("text", "Hi!")],
        ),
        (("</think>\n\nHi!",), [("text", "Hi!")]),
    ],
    ids=str,
)
def test_prompt_opens_the_reasoning(
    pieces: tuple[str, ...], expected: Events, models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """If the template opens the reasoning, the answer begins inside it."""
    scripts.say(*pieces)
    assert events(models[OPENING]) == expected
    assert scripts.prompts[0].endswith("<think>\n")


def test_reasoning_stays_out_of_the_conversation(
    models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """The next prompt contains the last answer without its reasoning."""
    scripts.say("<think>He greets.</think>\n\nHi!")
    scripts.say("Then this.")
    conversation = models[THINKER].conversation()
    assert conversation.prompt("Hello").text() == "Hi!"
    assert conversation.prompt("And then?").text() == "Then this."
    assert scripts.prompts[1].count("<|im_start|>assistant\nHi!<|im_end|>") == 1
    assert "He greets" not in scripts.prompts[1]


def test_reasoning_before_a_tool_call(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """A tool call after the reasoning is made; one inside the reasoning is not."""
    call = '<tool_call>{"name": "greet", "arguments": {}}</tool_call>'
    scripts.say(f"<think>Shall I write {call}? Yes.</think>\n\n{call}")
    scripts.say("<think>Done.</think>Hi!")
    greeted: list[str] = []

    def greet() -> str:
        greeted.append("Hi!")
        return "greeted"

    assert models[THINKER].chain("Hello", tools=[greet]).text() == "Hi!"
    assert greeted == ["Hi!"]


def test_mask_begins_after_the_thoughts() -> None:
    """Nothing is masked inside the thoughts; where they are optional, they may begin or not."""
    import mlx.core as mx

    tokenizer = llguidance.LLTokenizer("byte")

    def allowed(written: str, start: bytes) -> str:
        grammar = compile_schema({"const": 1}, tokenizer)
        constraint = make_constraint(grammar, written.encode(), think_end=b"}>", think_start=start)
        logits: Any = constraint(mx.array([0]), mx.zeros((1, tokenizer.vocab_size)))
        assert constraint.error is None
        return "".join(chr(token) for token in range(32, 128) if logits[0, token].item() == 0)

    everything = allowed("", b"")
    assert len(everything) == 96
    expected = {"": "1<", "<": everything, "<a}": everything, "<a}>": "1", "<}}>": "1"}
    assert {written: allowed(written, b"<") for written in expected} == {
        written: "".join(sorted(characters)) for written, characters in expected.items()
    }
    assert allowed("a}>", b"") == "1"
