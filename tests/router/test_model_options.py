"""Options of the tiers' own models, given to `tiered` for one request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pydantic
import pytest
from click.testing import CliRunner, Result
from llm.cli import cli

from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys


def run(*args: str, stdin: str = "") -> Result:
    """Run `llm`."""
    return CliRunner().invoke(cli, args, input=stdin)


@pytest.mark.parametrize("options", [[], ["--async"]])
def test_reaches_the_model(
    toys: Toys,
    logged: Callable[[], list[dict[str, Any]]],
    httpx_mock: HTTPXMock,
    options: list[str],
) -> None:
    """An option of the cloud's model goes to that model, and is logged."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    chosen = ["-o", "tier", "cloud", "-o", "thinking_budget", "100", "-o", "top_k", "3"]
    assert run("-m", "tiered", *options, *chosen, "Hello").output == "Hello\n"
    [body] = gemini.sent(httpx_mock)
    assert body["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 100
    assert body["generationConfig"]["topK"] == 3
    [turn] = logged()
    assert json.loads(turn["options_json"])["thinking_budget"] == "100"


async def test_models_without_it(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A model that lacks the option answers without it, as the decided one and as a fallback."""
    await ask("Hello", tier="small", thinking_budget=100)
    gemini.BAD_REQUEST.answer(httpx_mock)
    response = await ask("Hello", tier="cloud", thinking_budget=100)
    assert response.text_or_raise() == "medium answer"


async def test_other_value_is_another_request(
    ask: Ask, httpx_mock: HTTPXMock, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """An answer from the cache was given with the same options."""
    for _ in range(2):
        gemini.answer(httpx_mock, *gemini.says("Hello"))
    for budget in (100, 200, 100):
        await ask("Hello", tier="cloud", cache=True, thinking_budget=budget)
    assert len(gemini.sent(httpx_mock)) == 2


@pytest.mark.parametrize("command", [[], ["chat"]])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("local_onyl", "1", "local_onyl\n  neither tiered nor the model of a tier has this option, "
         "did you mean local_only?"),
        ("google_search", "1", "google_search\n  neither tiered nor"),
        ("thinking_budget", "much", "thinking_budget\n  Input should be a valid integer"),
        ("complexity", "11", "complexity\n  Must be a whole number from 1 to 10"),
        ("tier", "smal", "unknown tier 'smal': did you mean small?"),
        ("max_tokens", "-1", "max_tokens\n  Input should be greater"),
    ],
)  # fmt: skip
def test_wrong(toys: Toys, command: list[str], name: str, value: str, error: str) -> None:
    """A wrong option ends `llm` and `llm chat` with an error, not with a traceback."""
    stdin = "Hello\nexit\n" if command else ""
    result = run(
        *command, "-m", "tiered", "-o", name, value, *([] if command else ["Hello"]), stdin=stdin
    )
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert f"Error: {error}" in result.output
    assert toys.small.prompts == toys.medium.prompts == []


def test_wrong_in_python(toys: Toys) -> None:
    """A misspelt option is an error before anything is asked."""
    with pytest.raises(pydantic.ValidationError, match="did you mean local_only"):
        llm.get_model("tiered").prompt("Hello", local_onyl=True)
    with pytest.raises(pydantic.ValidationError, match="valid integer"):
        llm.get_model("tiered").prompt("Hello", thinking_budget="much")


def test_stored(toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """An option of a model can be stored for `tiered`; a misspelt one can't."""
    assert run("models", "options", "set", "tiered", "thinking_budget", "0").exit_code == 0
    assert run("-m", "tiered", "-o", "complexity", "2", "Hello").output == "small answer\n"
    assert "did you mean" in run("models", "options", "set", "tiered", "local_onyl", "1").output


def test_config_with_a_mistake(toys: Toys) -> None:
    """If the config is wrong, that is the error."""
    toys.configure(fallbck="none")
    result = run("-m", "tiered", "-o", "thinking_budget", "0", "Hello")
    assert "fallbck: unknown key" in result.output
