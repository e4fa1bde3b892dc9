"""Plugins that register their models only while their server runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import ModelUnavailable, NotRunning
from llm_tiered.router import plugins
from llm_tiered.router.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model_servers import Server

pytest_plugins = ("tests.model_servers",)


def error(name: str) -> tuple[type[Exception], str, str | None]:
    """What the registry says of a model that llm does not know."""
    with pytest.raises(ModelUnavailable) as caught:
        Registry(llm.get_models_with_aliases()).get(name)
    return type(caught.value), caught.value.message, caught.value.fix


@pytest.mark.usefixtures("ollama")
@pytest.mark.parametrize("name", ["ollama/zephyr:7b", "zephyr:7b"])
def test_server_that_is_not_running(name: str) -> None:
    """Without its server the plugin has no models, which is no mistake in the config."""
    assert error(name) == (
        NotRunning,
        "Ollama is not running, or has no models",
        "ollama serve, or ollama pull zephyr:7b",
    )


def test_model_that_the_server_lacks(ollama: Server) -> None:
    """A running server that lacks the model gets it with a command, if the name is right."""
    ollama.models = ["llama3.2:latest"]
    assert error("ollama/zephyr:7b") == (
        ModelUnavailable, "Ollama has no such model", "ollama pull zephyr:7b"
    )  # fmt: skip
    assert error("ollama/llama3.2:lates")[1] == (
        "Ollama has no such model, did you mean ollama/llama3.2:latest?"
    )


def test_plugin_that_is_not_installed() -> None:
    """A name with the prefix of a plugin says which one is missing."""
    assert error("ollama/zephyr:7b") == (
        ModelUnavailable, "llm-ollama is not installed", "llm install llm-ollama"
    )  # fmt: skip


def test_any_plugin_without_models(installed: Callable[[str, str], Server]) -> None:
    """A plugin that is not known here is told by the prefix of its models."""
    installed("llm_gguf", "gguf/")
    assert error("gguf/zephyr")[:2] == (NotRunning, "llm-gguf has no models now")


@pytest.mark.usefixtures("ollama")
def test_misspelt_name_of_another_plugin() -> None:
    """What looks like the name of another model is a mistake, whether or not Ollama runs."""
    for name in ("gemini/gemini-flash-latst", "smolm2", "mlx/zephyr"):
        assert error(name)[0] is ModelUnavailable


def test_server_that_is_started_later(ollama: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that goes on finds a server that is started later, and seldom looks for it."""
    now = 100.0
    monkeypatch.setattr(plugins, "time", SimpleNamespace(monotonic=lambda: now))
    entries: list[Any] = llm.get_models_with_aliases()
    registry = Registry(entries)
    asked = ollama.asked
    for passed in (0.0, 30.0, 29.0):
        now += passed
        with pytest.raises(NotRunning):
            registry.get("ollama/zephyr")
    assert ollama.asked == asked
    now += 1.0
    with pytest.raises(NotRunning):
        registry.get_async("ollama/zephyr")
    assert ollama.asked == asked + 1
    ollama.models = ["zephyr"]
    now += plugins.ASK_AGAIN
    assert registry.get_async("ollama/zephyr").model_id == "ollama/zephyr"
    assert registry.get("ollama/zephyr").model_id == "ollama/zephyr"
    assert ollama.asked == asked + 2
