"""The plugins of llm that models come from, and the servers behind them."""

from __future__ import annotations

from typing import Any

# What starts the server that a plugin asks.
_STARTS = {"llm-ollama": "ollama serve", "llm-lmstudio": "lms server start"}


def plugin_of(model: Any) -> str:
    """Return the package that a model comes from."""
    return type(model).__module__.partition(".")[0].replace("_", "-")


def start_fix(plugin: str) -> str:
    """Return what to do if the server behind a plugin's models is not there."""
    return _STARTS.get(plugin, "start the server, or check the network")
