"""A batch in the test's own event loop, and models that wait for the test."""

from __future__ import annotations

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import llm

from llm_tiered.batch.output import Output
from llm_tiered.batch.report import Report
from llm_tiered.batch.rows import Defaults, read
from llm_tiered.batch.runner import Batch, Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_tiered.batch.rows import BadRow, Row


class Run:
    """A batch over rows such as `{"prompt": "Hello"}`, and what came of it."""

    def __init__(self, *rows: dict[str, Any], model: str = "tiered", **how: Any) -> None:
        self.model: Any = llm.get_async_model(model)
        self.rows = rows
        self.file = io.BytesIO()
        self.output = Output(self.file)
        self.report = Report(None)
        self.batch = Batch(Job(self.model, **how), self.output, None, self.report)

    def read(self) -> Iterator[Row | BadRow]:
        """The rows as a batch gets them."""
        lines = (json.dumps(row).encode() for row in self.rows)
        return read(lines, "jsonl", Defaults(self.model.model_id, self.model.Options))

    async def __call__(self) -> list[dict[str, Any]]:
        """Run it; gives the answers as they stand in the output."""
        await self.batch.run(self.read())
        return self.answers()

    def answers(self) -> list[dict[str, Any]]:
        """The answers so far."""
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def texts(self) -> list[str]:
        """The responses and errors so far."""
        return [answer.get("response") or answer["error"] for answer in self.answers()]


def prompts(number: int, **fields: Any) -> list[dict[str, Any]]:
    """Rows that ask 0, 1, 2, …; small ones if nothing else is said."""
    return [{"prompt": str(i), "complexity": 2} | fields for i in range(number)]


class Held:
    """Answers that wait until they are let go, one prompt after the other."""

    def __init__(self) -> None:
        self.events: dict[str, asyncio.Event] = {}

    async def __call__(self, model: str, prompt: str) -> str:
        """Wait, then answer with the prompt."""
        await self.events.setdefault(prompt, asyncio.Event()).wait()
        return prompt

    def let(self, *names: str) -> None:
        """Let these prompts be answered."""
        for name in names:
            self.events.setdefault(name, asyncio.Event()).set()


class _OneThread(ThreadPoolExecutor):
    """Does one thing after the other: what is put in last is done when all else is."""


async def settle() -> None:
    """Let everything happen that can happen without help, in threads too."""
    loop = asyncio.get_running_loop()
    if not isinstance(getattr(loop, "_default_executor", None), _OneThread):
        loop.set_default_executor(_OneThread(max_workers=1))
    for _ in range(300):
        await asyncio.sleep(0)
    await asyncio.to_thread(int)
    for _ in range(300):
        await asyncio.sleep(0)
