"""A worker's engine, as its driver uses it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.cluster import worker
from llm_tiered.cluster.worker import WorkerEngine, WorkerRequest, joined
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Done, GenerationRequest
from llm_tiered.mlx.process import wire
from llm_tiered.mlx.tokens.decoding import Reasoning, Text

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.requests import Event

NAME = "mlx/tiny"
DONE = Done("stop", 1, 0, 1, 1.0, 1.0, 1, None, None)


class Held:
    """An engine that answers when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waiting: list[tuple[str, Any, Any]] = []

    def resident(self) -> dict[str, Path]:
        """The only model."""
        return {NAME: self.folder}

    def submit(self, request: Any, emit: Any, token: Any, *, wait: bool = True) -> bool:
        """Keep the request."""
        self.waiting.append((request.chat[-1]["content"], emit, token))
        return True


@pytest.fixture
def held(tmp_path: Path, user_path: Path, monkeypatch: pytest.MonkeyPatch) -> Held:
    """The engine in place of the real one."""
    engine = Held(tmp_path)
    monkeypatch.setattr(worker, "ENGINE", engine)
    return engine


def sent(folder: Path, *numbers: int) -> list[WorkerRequest]:
    """Return requests whose prompts are their numbers."""
    spec = ModelSpec(NAME, path=folder)
    return [
        WorkerRequest(
            number,
            spec,
            wire.dump_request(
                GenerationRequest(NAME, folder, 1, ({"role": "user", "content": str(number)},), 8)
            ),
        )
        for number in numbers
    ]


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_answers_come_as_they_are_ready(held: Held, tmp_path: Path) -> None:
    """An answer does not wait for the others that were sent with it."""
    engine = WorkerEngine(2)
    await engine.submit(engine.session, sent(tmp_path, 1, 2, 3))
    await settle()
    assert [prompt for prompt, _, _ in held.waiting] == ["1", "2"]
    held.waiting[1][1](DONE)
    news = await engine.news(engine.session)
    assert [answer.number for answer in news.answers] == [2]
    await settle()
    assert [prompt for prompt, _, _ in held.waiting] == ["1", "2", "3"]
    await engine.cancel([1, 3])


async def test_driver_is_gone(held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody asks for any more is cancelled."""
    monkeypatch.setattr(worker, "NEWS_WITHIN", 0)
    monkeypatch.setattr(worker, "GONE_AFTER", 0)
    engine = WorkerEngine(2)
    await engine.submit(engine.session, sent(tmp_path, 1))
    await settle()
    assert [token.cancelled for _, _, token in held.waiting] == [True]


async def test_cancelled(held: Held, tmp_path: Path) -> None:
    """A request that is cancelled ends in the engine, and one that still waits never begins."""
    engine = WorkerEngine(1)
    await engine.submit(engine.session, sent(tmp_path, 1, 2))
    await settle()
    await engine.cancel([1, 2])
    await settle()
    assert [(prompt, token.cancelled) for prompt, _, token in held.waiting] == [("1", True)]


async def test_request_for_another_session(held: Held, tmp_path: Path) -> None:
    """A worker that was started again does not take what was meant for the one before."""
    engine = WorkerEngine(1)
    with pytest.raises(LookupError):
        await engine.submit("the one before", sent(tmp_path, 1))
    with pytest.raises(LookupError):
        await engine.news("the one before")


def test_joined() -> None:
    """Neighbouring texts become one, and everything stays in order."""
    events: list[Event] = [Text("a"), Text("b"), Reasoning("c"), Text("d"), DONE]
    assert [*joined(events)] == [Text("ab"), Reasoning("c"), Text("d"), DONE]
