"""The plugins of llm that models come from, and the servers behind them.

Some plugins ask their server for its models whenever llm starts, and register none if it is not
running.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from llm.models import ModelWithAliases
from llm.plugins import pm

from ..errors import ModelUnavailable, NotRunning
from ..mlx.catalog import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable


class ModelServer(NamedTuple):
    """A program that serves models: its name, and the commands that start it and add a model."""

    name: str
    start: str
    add: str


_SERVERS = {
    "llm-ollama": ModelServer("Ollama", "ollama serve", "ollama pull"),
    "llm-lmstudio": ModelServer("LM Studio", "lms server start", "lms get"),
}

# Seconds after which a plugin without models is asked again in this process.
ASK_AGAIN = 60.0

_asked: dict[str, float] = {}


def plugin_of(model: Any) -> str:
    """Return the package that a model comes from."""
    return _package(type(model).__module__)


def start_fix(plugin: str) -> str:
    """Return what to do if the server behind a plugin's models is not there."""
    server = _SERVERS.get(plugin)
    return server.start if server else "start the server, or check the network"


def missing(name: str, models: Iterable[Any], hint: str) -> ModelUnavailable | None:
    """Return the error for a name that llm does not know, if it can be a model behind a server.

    `hint` is the nearest name that llm knows, and not empty if the name may be a misspelt one.
    """
    if plugins := _silent(name, models) if not hint or "/" in name else []:
        return _not_running(plugins[0], name)
    own = _named_by(name)
    if (server := _SERVERS.get(own)) is None:
        return None
    if own not in _registering():
        return ModelUnavailable(f"{own} is not installed", fix=f"llm install {own}")
    add = f"{server.add} {name.partition('/')[2]}"
    return ModelUnavailable(f"{server.name} has no such model{hint and f', {hint}'}", fix=add)


def ask_again(name: str, models: list[ModelWithAliases]) -> None:
    """Let a plugin that had no models register them, if it may have one of that name by now.

    It is asked once a minute at most.
    """
    for plugin in _silent(name, [entry.model for entry in models]):
        now = time.monotonic()
        # llm has asked it when it started.
        if now - _asked.setdefault(plugin, now) >= ASK_AGAIN:
            _asked[plugin] = now
            _register(plugin, models)


def _register(plugin: str, models: list[ModelWithAliases]) -> None:
    def register(model: Any, async_model: Any = None, aliases: Any = None) -> None:
        models.append(ModelWithAliases(model, async_model, set(aliases or ())))

    for hook in _registering()[plugin]:
        arguments = {"register": register, "model_aliases": models}
        hook.function(**{each: arguments[each] for each in hook.argnames})


def _not_running(plugin: str, name: str) -> NotRunning:
    server = _SERVERS.get(plugin)
    if server is None:
        return NotRunning(f"{plugin} has no models now", fix="start its server, or set it up")
    add = f"{server.add} {name.partition('/')[2] or name}"
    return NotRunning(
        f"{server.name} is not running, or has no models", fix=f"{server.start}, or {add}"
    )


def _silent(name: str, models: Iterable[Any]) -> list[str]:
    """The plugins without models now that may have one of that name while their server runs."""
    silent = _registering().keys() - {plugin_of(model) for model in models if model}
    # Earlier versions of llm-ollama have names without a slash.
    may_have = {_named_by(name)} if "/" in name else _SERVERS.keys()
    return sorted(silent & may_have)


def _registering() -> dict[str, list[Any]]:
    """The plugins that register models with llm, with their hooks."""
    hooks: dict[str, list[Any]] = {}
    for hook in pm.hook.register_models.get_hookimpls():
        hooks.setdefault(_package(hook.function.__module__), []).append(hook)
    return hooks


def _named_by(name: str) -> str:
    """The plugin whose models have such names, such as ollama/x or lmstudio@host/x, or nothing."""
    prefix, slash, _ = name.partition("/")
    return f"llm-{prefix.partition('@')[0]}" if slash and not name.startswith(PREFIX) else ""


def _package(module: str) -> str:
    return module.partition(".")[0].replace("_", "-")
