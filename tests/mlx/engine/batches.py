"""Several requests at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.engine.engine import ENGINE, MAX_IN_FLIGHT
from llm_tiered.mlx.engine.worker import Worker
from tests.mlx.models import PATIENCE

if TYPE_CHECKING:
    import llm
    import pytest

    from llm_tiered.mlx.models import AsyncMlxModel

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
ENDLESS: dict[str, Any] = {"temperature": 0, "max_tokens": 3500}


def questions(count: int) -> list[str]:
    """Return questions of different lengths."""
    return [f"What is {number} times {number}? " * (number % 7 + 1) for number in range(count)]


def start_together(patch: pytest.MonkeyPatch, count: int) -> None:
    """Hold the next requests back until there are `count` of them, so that they form one batch."""
    admit, is_complete = Worker._admit, False

    def hold(worker: Worker) -> None:
        nonlocal is_complete
        while not is_complete and len(worker._waiting) < count and not worker._closing.is_set():
            worker._receive(wait=True)
        is_complete = True
        admit(worker)

    patch.setattr(Worker, "_admit", hold)


def check_all_slots_are_free() -> None:
    """Assert that no request is in flight any more."""
    assert all(ENGINE._slots.acquire(timeout=PATIENCE) for _ in range(MAX_IN_FLIGHT))
    ENGINE._slots.release(MAX_IN_FLIGHT)


class Reader:
    """A task that reads a long answer."""

    def __init__(self, model: AsyncMlxModel, prompt: str) -> None:
        self.has_begun = asyncio.Event()
        self.text = ""
        self.task = asyncio.create_task(self._read(model.prompt(prompt, **ENDLESS)))

    async def _read(self, response: llm.AsyncResponse) -> None:
        async for piece in response:
            self.text += piece
            self.has_begun.set()
