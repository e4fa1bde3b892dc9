"""What the tests of the shared engine have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process import choice, client
from llm_tiered.mlx.process.connection import EngineConnection
from tests.mlx.process.conversations import Conversations
from tests.mlx.process.engines import end, engine_on_a_thread
from tests.tiny_models import NEVER, build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers until it is stopped, with a long context. Read only."""
    target = tmp_path_factory.mktemp("shared")
    return build("qwen2", target, layers=1, context=200_000, eos_bias=NEVER)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what earlier tests have seen of their engines."""
    monkeypatch.setattr(choice, "_SHARED", choice._SharedEngine())


@pytest.fixture
def no_engine_left() -> Iterator[None]:
    """End the engine that runs after the test."""
    yield
    if engine := client.running():
        end(engine)


@pytest.fixture(scope="module")
def engine_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Engine]]:
    """A user directory with an engine, which runs on a thread as long as the module's tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LLM_USER_PATH", str(home))
        with engine_on_a_thread() as engine:
            yield home, engine


@pytest.fixture
def engine(engine_home: tuple[Path, Engine], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The module's engine, which this test's prompts go to."""
    monkeypatch.setenv("LLM_USER_PATH", str(engine_home[0]))
    return engine_home[1]


@pytest.fixture
def conversations(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Conversations]:
    """An engine that says what the test says. It is this process, and must not be killed."""
    monkeypatch.setattr(EngineConnection, "send_signal", lambda *_: None)
    conversations = Conversations()
    yield conversations
    conversations.over.set()
    conversations.engine.end()
