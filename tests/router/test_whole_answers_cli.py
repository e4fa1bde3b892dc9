"""Answers that are not whole, at the command line: what is printed, logged and repeated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from llm.cli import cli
from llm.parts import StreamEvent

from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Toys

CLOUD = ("-m", "tiered", "-o", "tier", "cloud")
ALONE = (*CLOUD, "-o", "fallback", "none")
THOUGHTS = gemini.last(gemini.thought("Let me see."), finish="MAX_TOKENS")
CUT_JSON = gemini.last(gemini.text('{"name": "Rex", "bi'), finish="MAX_TOKENS")
HALF = gemini.chunk(gemini.text("Half an"))
CUT_TEXT = gemini.last(gemini.text("Once upon"), finish="MAX_TOKENS")

WAYS = [[], ["--no-stream"], ["--async"], ["--async", "--no-stream"], ["-R"]]

Turns = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def turns(toys: Toys, logged: Callable[[], Turns]) -> Callable[[], Turns]:
    """The turns in the log, on a machine with toys for local tiers."""
    toys.medium.schemas = toys.small.schemas = True
    return logged


def run(*args: str, stdin: str = "") -> Result:
    """Run `llm`."""
    return CliRunner().invoke(cli, args, input=stdin)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_failed_attempt(
    way: list[str], httpx_mock: HTTPXMock, turns: Callable[[], Turns], caplog: Any
) -> None:
    """What has not shown a word is no answer: another model's is printed and logged."""
    gemini.answer(httpx_mock, THOUGHTS)
    result = run(*CLOUD, *way, "Go")
    assert (result.exit_code, result.stdout) == (0, "medium answer\n")
    assert ("Let me see.\n" in result.stderr) == (way in ([], ["--async"]))
    assert "failed: only thoughts, cut off at max_tokens" in caplog.text
    [turn] = turns()
    assert turn["resolved_model"] == "mlx/toy-medium"


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_no_other_model(way: list[str], httpx_mock: HTTPXMock, turns: Callable[[], Turns]) -> None:
    """If no other model may answer, the error says what is missing; nothing is logged."""
    for chunk in (THOUGHTS, CUT_JSON):
        gemini.answer(httpx_mock, chunk)
    for missing, schema in (
        ("only thoughts, cut off at max_tokens", ()),
        ("the JSON was cut off at max_tokens", ("--schema", "name, bio")),
    ):
        result = run(*ALONE, *way, *schema, "Go")
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"failed: {missing} → raise max_tokens\n" in result.stderr
    assert turns() == []


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_broken_answer(way: list[str], httpx_mock: HTTPXMock, turns: Callable[[], Turns]) -> None:
    """After the first words the error says what happened; nothing is logged."""
    gemini.answer(httpx_mock, HALF)
    result = run(*CLOUD, *way, "Go")
    assert result.exit_code == 1
    assert result.stdout == ("" if "--no-stream" in way else "Half an")
    assert result.stderr == (
        f"Error: {gemini.MODEL} broke off its answer: the stream ended without a finish reason\n"
    )
    assert turns() == []


def test_text_that_is_cut_off(
    httpx_mock: HTTPXMock,
    turns: Callable[[], Turns],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A text that is cut off is an answer; there is a warning unless a limit was asked for."""
    for options in ((), ("-o", "max_tokens", "2"), ("-o", "cache", "1"), ("-o", "cache", "1")):
        gemini.answer(httpx_mock, CUT_TEXT)
        result = run(*CLOUD, *options, "Go")
        assert (result.exit_code, result.stdout) == (0, "Once upon\n")
    warning = f"the answer of {gemini.MODEL} is cut off (raise max_tokens)"
    assert caplog.messages == [warning] * 3
    # Neither of them is repeated from the cache.
    assert [json.loads(turn["response_json"])["tiered"]["key"] for turn in turns()] == [None] * 4


def test_text_of_a_local_model_that_is_cut_off(
    toys: Toys, turns: Callable[[], Turns], caplog: pytest.LogCaptureFixture
) -> None:
    """The same goes for a local model."""

    def script(prompt: Any, response: Any) -> Any:
        yield "Once upon"
        response.response_json = {"finish_reason": "length"}

    toys.small.script = script  # type: ignore[method-assign]  # this toy only
    for options in ((), ("-o", "max_tokens", "2")):
        result = run("-m", "tiered", "-o", "tier", "small", *options, "Go")
        assert (result.exit_code, result.stdout) == (0, "Once upon\n")
    assert caplog.messages == ["the answer of mlx/toy-small is cut off (raise max_tokens)"]
    assert len(turns()) == 2


def test_chat(httpx_mock: HTTPXMock, turns: Callable[[], Turns]) -> None:
    """`llm chat` goes on with another model's answer."""
    gemini.answer(httpx_mock, THOUGHTS)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    result = run("chat", *CLOUD, stdin="Go\nAgain\nexit\n")
    assert result.exit_code == 0
    assert "medium answer" in result.stdout
    assert "Hello" in result.stdout
    assert [turn["resolved_model"] for turn in turns()] == ["mlx/toy-medium", gemini.MODEL]


def test_broken_chat(httpx_mock: HTTPXMock, turns: Callable[[], Turns]) -> None:
    """An answer that breaks off ends `llm chat` with a line; what came before is logged."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    gemini.answer(httpx_mock, HALF)
    result = run("chat", *CLOUD, stdin="Go\nAgain\nexit\n")
    assert result.exit_code == 1
    assert result.stdout.endswith("Half an")
    assert result.stderr == (
        f"Error: {gemini.MODEL} broke off its answer: the stream ended without a finish reason\n"
    )
    assert len(turns()) == 1


@pytest.mark.parametrize("way", [[], ["--async"]])
def test_tool_loop(
    toys: Toys, httpx_mock: HTTPXMock, turns: Callable[[], Turns], way: list[str]
) -> None:
    """In a tool loop each turn has to be whole; no tool runs for a turn that is not."""
    toys.medium.tools = True
    call = gemini.call("note", {"text": "a"}, id="c-1")
    gemini.answer(httpx_mock, gemini.last(call, finish="MAX_TOKENS"))
    functions = 'def note(text: str) -> str:\n    print("noted", text)\n    return text'
    result = run(*CLOUD, *way, "--functions", functions, "Go")
    assert (result.exit_code, result.stdout) == (0, "medium answer\n")
    gemini.answer(httpx_mock, gemini.last(call))
    gemini.answer(httpx_mock, HALF)
    result = run(*CLOUD, *way, "--functions", functions, "Go")
    assert (result.exit_code, result.stdout) == (1, "noted a\nHalf an")
    assert "broke off its answer" in result.stderr


def test_json_is_not_shown_before_it_is_whole(
    toys: Toys, httpx_mock: HTTPXMock, turns: Callable[[], Turns]
) -> None:
    """JSON that is cut off or does not fit is followed by that of another model, on every tier."""
    toys.small.does = ['{"name": ', "3}"]
    toys.medium.does = ['{"name": "Rex", "bio": "A dog."}']
    for _ in range(2):
        thoughts = gemini.thought("A dog?")
        gemini.answer(httpx_mock, gemini.last(thoughts, gemini.text('{"name": "Re')))
    gemini.answer(httpx_mock, CUT_JSON)
    for tier in ("cloud", "cloud", "small"):
        result = run("-m", "tiered", "-o", "tier", tier, "--schema", "name, bio", "Invent a dog")
        assert (result.exit_code, json.loads(result.stdout)["name"]) == (0, "Rex")
    assert {turn["resolved_model"] for turn in turns()} == {"mlx/toy-medium"}


def test_schema_that_nothing_can_be_checked_against(httpx_mock: HTTPXMock) -> None:
    """A schema that is not valid is an error before any model is asked and paid."""
    result = run(*CLOUD, "--schema", '{"type": "strin"}', "Go")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the schema is not a valid JSON Schema: 'strin' ")
    assert httpx_mock.get_requests() == []


def test_json_is_not_repeated_unless_it_fits(
    toys: Toys, httpx_mock: HTTPXMock, turns: Callable[[], Turns], monkeypatch: Any
) -> None:
    """What an earlier version logged without a check is not repeated from the cache."""
    asked = (*CLOUD, "-o", "cache", "1", "--schema", "name, bio", "Invent a dog")
    for text in ('{"name": "Rex"}', '{"name": "Rex", "bio": "A dog."}'):
        gemini.answer(httpx_mock, gemini.last(gemini.text(text)))
    with monkeypatch.context() as unchecked:
        unchecked.setattr("llm_tiered.json_schema.validate", lambda *_: None)
        assert "bio" not in run(*asked).stdout
    assert "A dog." in run(*asked).stdout
    assert "A dog." in run(*asked).stdout
    records = [json.loads(turn["response_json"])["tiered"] for turn in turns()]
    assert [record["cached_from"] for record in records] == [None, None, turns()[1]["id"]]


def test_thoughts_of_a_local_model(toys: Toys, turns: Callable[[], Turns]) -> None:
    """The thoughts of a model that fails are neither in the log nor in the answer after them."""
    thought = StreamEvent(type="reasoning", chunk="Let me see.")
    toys.small.does = [thought, RuntimeError("it broke")]
    toys.medium.does = [StreamEvent(type="reasoning", chunk="I know."), "Yes."]
    result = run("-m", "tiered", "-o", "tier", "small", "Go")
    assert (result.exit_code, result.stdout) == (0, "Yes.\n")
    assert result.stderr.startswith("Let me see.\n")
    shown = run("logs", "-n", "1", "--json").stdout
    assert "I know." in shown
    assert "Let me see" not in shown
