"""Batches in the event loop of the test, and models that wait for the test."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import llm

from llm_tiered.batch.output import Output
from llm_tiered.batch.progress import Progress
from llm_tiered.batch.rows import Defaults, read
from llm_tiered.batch.runner import BatchRun, BatchSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_tiered.batch.journal import Journal
    from llm_tiered.batch.rows import BadRow, Row


class Run:
    """A batch over rows such as `{"prompt": "Hello"}`, and its output."""

    def __init__(
        self,
        *rows: dict[str, Any],
        model: Any = "tiered",
        journal: Journal | None = None,
        output: Output | None = None,
        **settings: Any,
    ) -> None:
        self.model: Any = llm.get_async_model(model) if isinstance(model, str) else model
        self.rows = rows
        self.file = io.BytesIO()
        self.progress = Progress(None)
        self.batch = BatchRun(
            BatchSettings(self.model, **settings),
            output or Output(self.file),
            journal,
            self.progress,
        )

    def read(self) -> Iterator[Row | BadRow]:
        """The rows as the batch reads them."""
        lines = (json.dumps(row).encode() for row in self.rows)
        return read(lines, "jsonl", Defaults(self.model.model_id, self.model.Options))

    async def __call__(self) -> list[dict[str, Any]]:
        """Run the batch and return the answers in its output."""
        await self.batch.run(self.read())
        return self.answers()

    def answers(self) -> list[dict[str, Any]]:
        """The answers so far."""
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def texts(self) -> list[str]:
        """The responses and errors so far."""
        return [answer.get("response") or answer["error"] for answer in self.answers()]


def prompts(number: int, **fields: Any) -> list[dict[str, Any]]:
    """Rows with the prompts 0, 1, 2, …, for the small tier unless the fields differ."""
    return [{"prompt": str(i), "complexity": 2} | fields for i in range(number)]


class Held:
    """Answers each prompt with itself once the test releases it."""

    def __init__(self) -> None:
        self.events: dict[str, asyncio.Event] = {}

    async def __call__(self, model: str, prompt: str) -> str:
        """Wait for the release, then answer with the prompt."""
        await self.events.setdefault(prompt, asyncio.Event()).wait()
        return prompt

    def release(self, *prompts: str) -> None:
        """Let these prompts be answered."""
        for prompt in prompts:
            self.events.setdefault(prompt, asyncio.Event()).set()


class _OneThread(ThreadPoolExecutor):
    """A pool of one thread: when a job is done, all earlier jobs are done too."""


async def settle() -> None:
    """Run the event loop and its threads until nothing more can happen without the test."""
    loop = asyncio.get_running_loop()
    if not isinstance(getattr(loop, "_default_executor", None), _OneThread):
        loop.set_default_executor(_OneThread(max_workers=1))
    for number in range(10):
        for _ in range(60):
            await asyncio.sleep(0)
        if number == 0:
            await asyncio.to_thread(_wait_for_rows)
        await asyncio.to_thread(int)


def _wait_for_rows() -> None:
    """Let the thread that reads the rows come to their end, or to where it waits for room."""
    for thread in threading.enumerate():
        if thread.name == "rows":
            thread.join(0.1)
