"""Plugins that ask a server for their models, as llm-ollama does. A pytest plugin."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import llm
import pytest
from llm.plugins import pm

from llm_tiered.router import plugins
from tests.stand_in import AsyncStandIn, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Server:
    """A plugin whose server has these models while it is running."""

    def __init__(self, package: str, prefix: str) -> None:
        self.models: list[str] = []
        self.asked = 0
        self._prefix = prefix
        self._kinds = [
            type(kind.__name__, (kind,), {"__module__": f"{package}.models"})
            for kind in (StandIn, AsyncStandIn)
        ]

        def register_models(register: Callable[..., None]) -> None:
            self.asked += 1
            for name in self.models:
                register(*(kind(f"{self._prefix}{name}") for kind in self._kinds))

        register_models.__module__ = f"{package}.registry"
        self.module = ModuleType(package)
        vars(self.module)["register_models"] = llm.hookimpl(register_models)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Server]]:
    """Installs a plugin, given its package and the prefix of its models."""
    monkeypatch.setattr(plugins, "_asked", {})
    modules = []

    def install(package: str, prefix: str) -> Server:
        server = Server(package, prefix)
        modules.append(server.module)
        pm.register(server.module)
        return server

    yield install
    for module in modules:
        pm.unregister(module)


@pytest.fixture
def ollama(installed: Callable[[str, str], Server]) -> Server:
    """llm-ollama, whose server is not running."""
    return installed("llm_ollama", "ollama/")
