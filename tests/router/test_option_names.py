"""Options reach the models of other plugins under the names that these have for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.router import option_names
from llm_tiered.router.inner import inner_options, max_tokens
from llm_tiered.router.thinking import MOST_THOUGHTS
from tests.router import plugin_options
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from tests.router.conftest import OtherPlugin
    from tests.toys import Ask

ASKED = {"temperature": 0.5, "max_tokens": 50, "top_p": 0.9, "seed": 7, "thinking": False}


@pytest.fixture(autouse=True)
def _no_warnings_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option_names, "_given", set())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (plugin_options.Ollama,
         {"temperature": 0.5, "num_predict": 50, "top_p": 0.9, "seed": 7}),
        (plugin_options.OllamaThinking,
         {"temperature": 0.5, "num_predict": 50, "top_p": 0.9, "seed": 7, "think": False}),
        (plugin_options.GPT4All, {"temp": 0.5, "max_tokens": 50, "top_p": 0.9}),
        (plugin_options.Mistral, {"temperature": 0.5, "max_tokens": 50, "random_seed": 7}),
        (plugin_options.Claude,
         {"temperature": 0.5, "max_tokens": 50, "top_p": 0.9, "thinking": False}),
        (llm.Options, {}),
    ],
)  # fmt: skip
def test_names(options: type[llm.Options], expected: dict[str, Any]) -> None:
    """A model gets what it has a name for, and nothing that it does not know."""
    model = StandIn("x", Options=options)
    sent = inner_options(model, {}, ASKED)
    assert sent.model_dump(exclude_none=True) == expected
    assert inner_options(model, {}, {"num_ctx": 8192, "top_k": 1}) == options()


def test_thoughts_of_ollama_come_on_top() -> None:
    """Ollama counts the thoughts of a model, which thinks unless it is told not to."""
    model = StandIn("x", Options=plugin_options.OllamaThinking)
    for asked, limit in (({}, 50 + MOST_THOUGHTS), ({"thinking": False}, 50)):
        options: Any = inner_options(model, {"max_tokens": 50}, asked)
        assert options.num_predict == limit
    model = StandIn("x", Options=plugin_options.Ollama)
    options = inner_options(model, {"max_tokens": 50}, {"thinking": True})
    assert (options.num_predict, options.think) == (50, None)


def test_no_limit_of_ollama() -> None:
    """To Ollama a limit of -1 is none."""
    assert max_tokens(plugin_options.Ollama(num_predict=-1)) is None
    assert max_tokens(plugin_options.Ollama(num_predict=9)) == 9


async def test_warning(ask: Ask, other: OtherPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """One line says what a model has no name for, the first time that this matters."""
    other.add("server/x", Options=plugin_options.Mistral)
    for _ in range(2):
        await ask("Hello", tier="cloud", top_p=0.5, seed=3)
    assert caplog.messages == ["server/x has no option for top_p, so it answers without"]


async def test_no_warning(ask: Ask, other: OtherPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said where each option has a name, or is another model's own."""
    other.add("server/x", Options=plugin_options.Ollama)
    await ask("Hello", tier="cloud", max_tokens=50, top_p=0.5, seed=3)
    await ask("Hello", tier="small", num_predict=50)
    assert caplog.messages == []
