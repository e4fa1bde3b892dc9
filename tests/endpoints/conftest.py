"""A scripted server as the medium tier, reached through OpenAI's real library."""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

import pytest

from llm_tiered.endpoints import clients, pool
from llm_tiered.router import request
from llm_tiered.router.cooldowns import Cooldowns
from tests.conftest import WITHOUT_OPENAI
from tests.endpoints.scripted_server import MODEL, ScriptedServer
from tests.toys import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

    from tests.toys import Toys


@cache
def _real_openai() -> ModuleType:
    """OpenAI's library in place of what stands in for it in other tests, imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [each for each in sys.path if each != WITHOUT_OPENAI])
        patch.delitem(sys.modules, "openai", raising=False)
        return importlib.import_module("openai")


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """OpenAI's library; clients that a test has made end with it."""
    library = _real_openai()
    monkeypatch.setitem(sys.modules, "openai", library)
    made: dict[Any, Any] = {}
    monkeypatch.setattr(clients, "_clients", made)
    yield library
    for client in made.values():
        client.close()


@pytest.fixture
def server(toys: Toys, openai: ModuleType) -> Iterator[ScriptedServer]:
    """A server that is the medium tier."""
    with ScriptedServer() as scripted:
        serve(toys, scripted)
        yield scripted


@pytest.fixture
def two(toys: Toys, openai: ModuleType) -> Iterator[list[ScriptedServer]]:
    """Two servers of the medium tier."""
    with ScriptedServer() as first, ScriptedServer() as second:
        serve(toys, first, server=[first.address, second.address])
        yield [first, second]


def serve(toys: Toys, scripted: ScriptedServer, **keys: Any) -> None:
    """Make a server the medium tier, with these keys of the tier."""
    medium = {"name": "medium", "complexity": "5-7", "model": MODEL, "server": scripted.address}
    toys.configure(tiers=[TIERS[0], medium | keys, TIERS[2]])


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known from the requests of other tests."""
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what only this process knows, as the next one would."""
    monkeypatch.setattr(pool, "_LOADS", defaultdict(pool._Load))
    monkeypatch.setattr(pool, "_pools", {})
    monkeypatch.setattr(request, "COOLDOWNS", Cooldowns())
