"""What local models get wrong: a bad call goes back to the model, and no mistake cools it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.errors import AllTiersFailed, BrokenAnswer, EmptyAnswer, IncompleteAnswer
from tests.mlx.calculator import Calculator
from tests.mlx.models import async_local_model, details, local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

QWEN2, QWEN3 = "mlx/answer-qwen2", "mlx/answer-qwen3"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of two models that support tools."""
    root = tmp_path_factory.mktemp("answer")
    return {
        QWEN2: build("qwen2", root / "qwen2", layers=1, context=1024),
        QWEN3: build("qwen3", root / "qwen3", layers=1, context=1024),
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, llm.Model]:
    """The same models, as llm sees them."""
    return {name: local_model(folder, name) for name, folder in folders.items()}


@pytest.fixture
def tiered(folders: dict[str, Path], config_file: Path) -> llm.Model:
    """`tiered` with the first model as its small tier, and the second as the larger one."""
    models = [{"id": name, "path": str(path)} for name, path in folders.items()]
    tiers = [
        {"name": "small", "complexity": "1-5", "model": QWEN2},
        {"name": "medium", "complexity": "6-10", "model": QWEN3},
    ]
    config_file.write_text(json.dumps({"models": models, "tiers": tiers}))
    return llm.get_model("tiered")


def call(name: str, **arguments: Any) -> str:
    """Return a tool call as a model writes it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@pytest.fixture
def calculator() -> Calculator:
    """A calculator that has not been called."""
    return Calculator()


CUT_OFF = '<tool_call>\n{"name": "double", "arguments": {"number": 1234567890123456789'
LIMIT = "a tool call, cut off at max_tokens (raise max_tokens)"


BAD = {
    "no JSON": ("<tool_call>double it</tool_call>", "this is not a valid tool call"),
    "nothing": ("<tool_call></tool_call>", "this is not a valid tool call"),
    "a list": ("<tool_call>[1]</tool_call>", 'needs a "name"'),
    "no name": ('<tool_call>{"arguments": {}}</tool_call>', 'needs a "name"'),
    "arguments as a list": (
        '<tool_call>{"name": "double", "arguments": [2]}</tool_call>',
        'object of "arguments"',
    ),
    "arguments as a text": (
        '<tool_call>{"name": "double", "arguments": "2"}</tool_call>',
        'object of "arguments"',
    ),
    "unknown tool": (call("triple", number=2), "there is no tool 'triple', only 'double'"),
    "wrong type": (call("double", number="two"), "'two' is not of type 'integer'"),
    "empty arguments": (call("double"), "'number' is a required property"),
    "no arguments": ('<tool_call>{"name": "double"}</tool_call>', "'number' is a required"),
    "never closed": ('<tool_call>{"name": "double", "argum', "this is not a valid tool call"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_call_is_returned(
    case: str, models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A bad call is returned to the model with the reason, and the corrected call is made."""
    bad_call, reason = BAD[case]
    scripts.say(bad_call)
    scripts.say(call("double", number=2))
    scripts.say("4.")
    chain = models[QWEN2].chain("2 * 2?", tools=calculator.tools)
    assert chain.text() == "4."
    assert reason in scripts.prompts[1]
    assert calculator.numbers == [2]
    assert reason not in scripts.prompts[2]


def test_bad_call_counts(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """The usage includes the tokens of the bad call."""
    scripts.say(call("double", number="two"))
    scripts.say("4.")
    response = models[QWEN2].prompt("2 * 2?", tools=calculator.tools)
    assert response.text() == "4."
    usage = response.usage()
    assert usage.input == sum(scripts.prompt_tokens)
    assert len(scripts.prompt_tokens) == 2
    assert (usage.output or 0) > 10


@pytest.mark.parametrize("case", BAD)
async def test_bad_call_twice(
    case: str,
    folders: dict[str, Path],
    models: dict[str, llm.Model],
    scripts: Scripts,
    calculator: Calculator,
) -> None:
    """A second bad call is an error that says why, sync and async."""
    bad_call, reason = BAD[case]
    for _ in range(4):
        scripts.say(bad_call)
    with pytest.raises(IncompleteAnswer) as failed:
        models[QWEN2].chain("2 * 2?", tools=calculator.tools).text()
    assert QWEN2 in str(failed.value)
    assert "twice" in str(failed.value)
    assert reason in str(failed.value)
    chain = async_local_model(folders[QWEN2], QWEN2).chain("2 * 2?", tools=calculator.tools)
    with pytest.raises(IncompleteAnswer) as failed_async:
        await chain.text()
    assert str(failed_async.value) == str(failed.value)
    assert calculator.numbers == []


def test_good_call_before_a_bad_one(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A good call is made once, even if the model repeats it when it corrects another."""
    scripts.say("Well. ", call("double", number=2), call("double", number="five"))
    scripts.say(call("double", number=2), call("double", number=5))
    scripts.say("4 and 10.")
    chain = models[QWEN2].chain("2 * 2 and 2 * 5?", tools=calculator.tools)
    assert chain.text() == "Well. 4 and 10."
    assert calculator.numbers == [2, 5]
    assert call("double", number=2) in scripts.prompts[1]


def test_same_call_twice(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """Two equal calls are both made, also in a corrected answer."""
    twice = (call("double", number=2), call("double", number=2))
    scripts.say(*twice, call("double", number="two"))
    scripts.say(*twice)
    scripts.say("4, and 4.")
    assert models[QWEN2].chain("2 * 2, twice?", tools=calculator.tools).text() == "4, and 4."
    assert calculator.numbers == [2, 2]


def test_call_that_is_cut_off(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A call that max_tokens cuts off is an error that says so; the model is asked only once."""
    scripts.say(CUT_OFF)
    response = models[QWEN2].prompt("2 * 2?", tools=calculator.tools, max_tokens=20)
    with pytest.raises(EmptyAnswer) as failed:
        response.text()
    assert str(failed.value) == LIMIT
    assert len(scripts.prompts) == 1
    assert response.output_tokens == 20


def test_last_token_of_a_call(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A call that is whole counts even if the limit left no room for the marker that ends it."""
    written = call("double", number=2).removesuffix("\n</tool_call>")
    for _ in range(2):
        scripts.say(written)
    whole = models[QWEN2].prompt("2 * 2?", tools=calculator.tools)
    assert [each.arguments for each in whole.tool_calls()] == [{"number": 2}]
    # The last token ended the turn.
    limit = (whole.usage().output or 0) - 1
    limited = models[QWEN2].prompt("2 * 2?", tools=calculator.tools, max_tokens=limit)
    assert [each.arguments for each in limited.tool_calls()] == [{"number": 2}]
    assert details(limited)["finish_reason"] == "length"


MISTAKES = {
    "bad twice": ([call("double", number="two")] * 2, "'two' is not of type 'integer'"),
    "unknown tool": ([call("triple", number=2)] * 2, "there is no tool 'triple'"),
    "cut off": ([CUT_OFF], LIMIT),
    "no answer": ([""], "answered with nothing"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_of_a_model_do_not_cool_it(
    case: str, tiered: llm.Model, scripts: Scripts, calculator: Calculator
) -> None:
    """Another model answers in place of one that made a mistake, which serves the next prompt."""
    answers, reason = MISTAKES[case]
    for text in (*answers, "4.", "Hello!"):
        scripts.say(text)
    limit = 20 if case == "cut off" else 200
    response = tiered.prompt("2 * 2?", tools=calculator.tools, complexity=2, max_tokens=limit)
    assert response.text() == "4."
    attempts = details(response)["tiered"]["attempts"]
    assert [(each["model"], each["outcome"]) for each in attempts] == [
        (QWEN2, "failed"),
        (QWEN3, "ok"),
    ]
    assert reason.partition(" (")[0] in attempts[0]["reason"]
    following = tiered.prompt("Say hello", complexity=2)
    assert following.text() == "Hello!"
    assert following.resolved_model == QWEN2


def test_mistake_after_the_first_words(
    tiered: llm.Model, scripts: Scripts, calculator: Calculator
) -> None:
    """After the first words of an answer no other model takes over, and none is cooled."""
    scripts.say("Let me see. ", CUT_OFF)
    scripts.say("Hello!")
    response = tiered.prompt("2 * 2?", tools=calculator.tools, complexity=2, max_tokens=25)
    with pytest.raises(BrokenAnswer, match="a tool call, cut off at max_tokens"):
        response.text()
    following = tiered.prompt("Say hello", complexity=2)
    assert (following.text(), following.resolved_model) == ("Hello!", QWEN2)


def test_all_models_cut_off(tiered: llm.Model, scripts: Scripts, calculator: Calculator) -> None:
    """If the limit is too low for every model, the error names what to do for each."""
    for _ in range(2):
        scripts.say(CUT_OFF)
    with pytest.raises(AllTiersFailed) as failed:
        tiered.prompt(
            "2 * 2?", tools=calculator.tools, complexity=2, max_tokens=20, fallback="local"
        ).text()
    assert str(failed.value).count("→ raise max_tokens") == 2
    assert len(scripts.prompts) == 2


@pytest.mark.usefixtures("tiered")
def test_command_line(scripts: Scripts) -> None:
    """The command line shows why a tool was not called, in one line."""
    scripts.say(CUT_OFF)
    code = "def double(number: int) -> int:\n    return 2 * number\n"
    arguments = ["-m", QWEN2, "--functions", code, "-o", "max_tokens", "20", "2 * 2?"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert result.stderr.strip() == f"Error: {LIMIT}"
