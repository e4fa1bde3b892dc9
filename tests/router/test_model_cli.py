"""`llm -m tiered …`, as users type it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import llm
import pytest
from click.testing import CliRunner, Result
from llm.cli import cli

from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Toys


class Type(Protocol):
    """Run `llm` with these arguments."""

    def __call__(self, *args: str, stdin: str = "") -> Result:
        """The result of the command."""


@pytest.fixture
def run(toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> Type:
    """`llm` on a machine with toys for local tiers."""

    def run(*args: str, stdin: str = "") -> Result:
        return CliRunner().invoke(cli, args, input=stdin)

    return run


def tiers(turns: list[dict[str, Any]]) -> list[str]:
    """The decided tier of each turn."""
    return [json.loads(turn["response_json"])["tiered"]["tier"] for turn in turns]


def test_prompt(run: Type, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """The answer goes to stdout and is logged as an answer of `tiered`."""
    result = run("-m", "tiered", "-o", "complexity", "2", "Say hello")
    assert (result.exit_code, result.output) == (0, "small answer\n")
    (turn,) = logged()
    assert (turn["model"], turn["resolved_model"]) == ("tiered", "mlx/toy-small")
    assert tiers([turn]) == ["small"]


@pytest.mark.parametrize("command", ["prompt", "chat"])
def test_stuck_in_a_tool_loop(
    run: Type,
    logged: Callable[[], list[dict[str, Any]]],
    toys: Toys,
    caplog: pytest.LogCaptureFixture,
    command: str,
) -> None:
    """If a model makes the same call again, the next tier up answers, and one warning says so."""
    toys.small.tools = toys.medium.tools = True
    toys.small.does = [llm.ToolCall("llm_version", {}, tool_call_id="c-1")]
    said = ["Which version?"] if command == "prompt" else []
    options = ("-m", "tiered", "-o", "complexity", "2", "-T", "llm_version")
    result = run(command, *options, *said, stdin="Which version?\nexit\n")
    assert "medium answer" in result.stdout
    assert caplog.text.count("is stuck") == 1
    assert tiers(logged()) == ["small", "small", "medium"]


@pytest.mark.parametrize("value", ["high", "0", "11"])
def test_wrong_complexity(
    run: Type, logged: Callable[[], list[dict[str, Any]]], value: str
) -> None:
    """An invalid complexity is an error that names the option; nothing is logged."""
    result = run("-m", "tiered", "-o", "complexity", value, "Say hello")
    assert result.exit_code == 1
    first, second = result.output.splitlines()
    assert first == "Error: complexity"
    assert second == "  Must be a whole number from 1 to 10"
    assert logged() == []


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("tier", "clod", "unknown tier 'clod': did you mean cloud?"),
        ("tier", "x", "unknown tier 'x': known are small, medium, cloud, embedded"),
        (
            "task",
            "theory_analysys",
            "unknown task 'theory_analysys': did you mean theory_analysis?",
        ),
    ],
)
def test_unknown_name(
    run: Type,
    logged: Callable[[], list[dict[str, Any]]],
    option: str,
    value: str,
    error: str,
) -> None:
    """An unknown tier or task is a one-line error with the known names; nothing is logged."""
    result = run("-m", "tiered", "-o", option, value, "Say hello")
    assert result.exit_code == 1
    assert result.output == f"Error: {error}\n"
    assert logged() == []


def test_empty_prompt(run: Type, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """An empty prompt is a one-line error, and is not logged."""
    result = run("-m", "tiered", "")
    assert (result.exit_code, result.output) == (1, "Error: the prompt is empty\n")
    assert logged() == []


def test_wrong_config(run: Type, toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """A mistake in the config is an error that names the file and the key."""
    toys.configure(fallbck="none")
    result = run("-m", "tiered", "Say hello")
    assert result.exit_code == 1
    assert result.output == (
        f"Error: {toys.config_file}: fallbck: unknown key, did you mean fallback?\n"
    )
    assert logged() == []


def test_nothing_answers(
    run: Type,
    toys: Toys,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no model answers, the error lists them with their fixes, without a traceback."""
    monkeypatch.delenv("LLM_GEMINI_KEY")
    toys.medium.does = toys.small.does = [RuntimeError("it broke")]
    result = run("-m", "tiered", "Say hello")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "Error: no model could answer:"
    assert lines[3].startswith(
        f"  cloud ({gemini.MODEL}) skipped: no key → add one using 'llm keys"
    )
    assert len(lines) == 5
    assert logged() == []


def test_broken_answer(run: Type, toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """An answer that breaks off ends in a one-line error, and is not logged."""
    toys.medium.does = ["Half an", RuntimeError("it broke")]
    result = run("-m", "tiered", "Say hello")
    assert result.exit_code == 1
    assert result.stdout == "Half an"
    assert result.stderr == ("Error: mlx/toy-medium broke off its answer: RuntimeError: it broke\n")
    assert logged() == []


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
def test_async(
    run: Type,
    httpx_mock: HTTPXMock,
    logged: Callable[[], list[dict[str, Any]]],
    options: list[str],
) -> None:
    """--async uses the async models, and is logged the same way."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    result = run("-m", "tiered", "-o", "complexity", "8", "--async", *options, "Say hello")
    assert (result.exit_code, result.output) == (0, "Hello\n")
    assert tiers(logged()) == ["cloud"]


@pytest.mark.parametrize("options", [[], ["--async"]])
def test_continue(
    run: Type,
    httpx_mock: HTTPXMock,
    logged: Callable[[], list[dict[str, Any]]],
    options: list[str],
) -> None:
    """-c continues with the same tier, system prompt and history."""
    for words in ("Hello", "Bye", "More"):
        gemini.answer(httpx_mock, *gemini.says(words))
    run("-m", "tiered", "-o", "complexity", "8", "-s", "Be brief.", "Say hello")
    assert run("-c", *options, "Say bye").output == "Bye\n"
    assert run("-c", *options, "Say more").output == "More\n"
    bodies = gemini.sent(httpx_mock)
    assert [body["systemInstruction"]["parts"][0]["text"] for body in bodies] == ["Be brief."] * 3
    assert [len(body["contents"]) for body in bodies] == [1, 3, 5]
    assert tiers(logged()) == ["cloud"] * 3
    assert len({turn["thread_id"] for turn in logged()}) == 1


def test_continue_with_another_complexity(
    run: Type, httpx_mock: HTTPXMock, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """-c with a complexity goes to the tier that covers it."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    run("-m", "tiered", "-o", "complexity", "8", "Say hello")
    assert run("-c", "-o", "complexity", "1", "Say bye").output == "small answer\n"
    assert tiers(logged()) == ["cloud", "small"]


def test_continue_in_another_database(
    run: Type,
    httpx_mock: HTTPXMock,
    tmp_path: Path,
) -> None:
    """-c with -d continues with the tier recorded in that database."""
    other = str(tmp_path / "other.db")
    for words in ("Hello", "Bye"):
        gemini.answer(httpx_mock, *gemini.says(words))
    run("-m", "tiered", "-d", other, "-o", "complexity", "8", "Say hello")
    assert run("-c", "-d", other, "Say bye").output == "Bye\n"


def test_chat(run: Type, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """`llm chat` keeps its options for all turns of a thread, each logged once."""
    result = run("chat", "-m", "tiered", "-o", "complexity", "2", stdin="Hello\nBye\nexit\n")
    assert result.exit_code == 0
    assert result.output.count("small answer") == 2
    assert tiers(logged()) == ["small", "small"]
    assert len({turn["thread_id"] for turn in logged()}) == 1


def test_stored_options(run: Type, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """Options stored for `tiered` apply until a request overrides them."""
    assert run("models", "options", "set", "tiered", "complexity", "2").exit_code == 0
    run("-m", "tiered", "Say hello")
    run("-m", "tiered", "-o", "complexity", "6", "Say hello")
    assert tiers(logged()) == ["small", "medium"]


def test_template(run: Type, user_path: Path, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """A template sets the model and its options."""
    templates = user_path / "templates"
    templates.mkdir()
    (templates / "check.yaml").write_text(
        "model: tiered\nprompt: 'Check: $input'\noptions:\n  task: content_validation\n"
    )
    result = run("-t", "check", "a text")
    assert (result.exit_code, result.output) == (0, "small answer\n")
    assert json.loads(logged()[0]["options_json"]) == {"task": "content_validation"}


def test_key(run: Type, httpx_mock: HTTPXMock) -> None:
    """--key reaches Gemini."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    run("-m", "tiered", "-o", "tier", "cloud", "--key", "AQ.other", "Say hello")
    (request,) = httpx_mock.get_requests()
    assert request.headers["x-goog-api-key"] == "AQ.other"


@pytest.mark.parametrize("options", [[], ["--async"]])
def test_functions(
    run: Type,
    httpx_mock: HTTPXMock,
    logged: Callable[[], list[dict[str, Any]]],
    options: list[str],
) -> None:
    """--functions runs a tool loop; each turn is logged once, in one thread."""
    gemini.answer(httpx_mock, gemini.last(gemini.call("double", {"number": 2}, id="c-1")))
    gemini.answer(httpx_mock, *gemini.says("Four"))
    code = "def double(number: int) -> int:\n    return 2 * number"
    result = run("-m", "tiered", "--functions", code, *options, "2 * 2?")
    assert (result.exit_code, result.stdout.split()) == (0, ["Four"])
    assert tiers(logged()) == ["medium", "medium"]
    assert {turn["resolved_model"] for turn in logged()} == {gemini.MODEL}
    assert len({turn["thread_id"] for turn in logged()}) == 1


def test_usage(run: Type) -> None:
    """-u shows the tokens as the answering model counted them."""
    result = run("-m", "tiered", "-u", "Say hello")
    assert "Token usage: 5 input, 2 output" in result.stderr
