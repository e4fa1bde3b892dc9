"""What tests of many requests at once ask, and how."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import AsyncMlxModel

if TYPE_CHECKING:
    from pathlib import Path

    import llm

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
ENDLESS: dict[str, Any] = {"temperature": 0, "max_tokens": 3500}
PATIENCE = 30  # seconds, for what takes far less


class Fault(Exception):
    """What a test lets go wrong."""


def local(folder: Path, name: str) -> AsyncMlxModel:
    """The model in a folder."""
    return AsyncMlxModel(ModelSpec(model_id=name, path=folder), Limits, lambda _: None)


def questions(count: int) -> list[str]:
    """Questions of all lengths."""
    return [f"What is {number} times {number}? " * (number % 7 + 1) for number in range(count)]


async def ask(model: AsyncMlxModel, prompt: str, **options: Any) -> str:
    """Ask, and wait for the answer."""
    text: str = await asyncio.wait_for(model.prompt(prompt, **options).text(), PATIENCE)
    return text


class Reader:
    """A task that reads a long answer, and what it has read so far."""

    def __init__(self, model: AsyncMlxModel, prompt: str) -> None:
        self.begun = asyncio.Event()
        self.text = ""
        self.task = asyncio.create_task(self._read(model.prompt(prompt, **ENDLESS)))

    async def _read(self, response: llm.AsyncResponse) -> None:
        async for piece in response:
            self.text += piece
            self.begun.set()


def details(response: llm.AsyncResponse) -> dict[str, Any]:
    """Give what is said of an answer beside its text."""
    found: Any = response.response_json
    assert isinstance(found, dict)
    return found
