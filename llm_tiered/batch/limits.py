"""How many requests run at the same time, and how many start each minute.

The limits apply to the models that do the work, not to rows: a fallback of `tiered` from a local
model to the cloud counts, and so does a retry in the cloud.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import llm

from .. import gemini
from ..router.model import AsyncTieredModel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

AsyncModel: TypeAlias = "llm.AsyncModel | llm.AsyncKeyModel"

# Concurrent requests to local models. The engine batches these; more would only wait there.
LOCAL_CONCURRENCY = 64


class Gate:
    """Admits `concurrency` requests at the same time, and starts at most `rate` a minute."""

    def __init__(self, concurrency: int, rate: float | None = None) -> None:
        self._room = asyncio.Semaphore(concurrency)
        self._interval = 60 / rate if rate else 0.0
        self._next_start = 0.0

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Wait for a free slot, and hold it until the context ends."""
        async with self._room:
            now = asyncio.get_running_loop().time()
            start = max(now, self._next_start)
            self._next_start = start + self._interval
            if start > now:
                await asyncio.sleep(start - now)
            yield


def limit(model: AsyncModel, concurrency: int, rate: float | None) -> AsyncModel:
    """Return the model with limits; `concurrency` and `rate` (per minute) apply to the cloud.

    The limits of `tiered` are those of the models behind it.
    """
    cloud, local = Gate(concurrency, rate), Gate(LOCAL_CONCURRENCY)

    def limited(inner: AsyncModel) -> Any:
        return _limited(inner, local if is_local(inner) else cloud)

    if not isinstance(model, AsyncTieredModel):
        alone: AsyncModel = limited(model)
        return alone
    entries = [
        replace(entry, async_model=limited(entry.async_model)) if entry.async_model else entry
        for entry in llm.get_models_with_aliases()
    ]
    return AsyncTieredModel(entries)


def is_local(model: AsyncModel) -> bool:
    """Whether the model runs on this machine."""
    return getattr(model, "runs_here", False)


def _limited(model: AsyncModel, gate: Gate) -> AsyncModel:
    # First, since it replaces `execute` too.
    model = gemini.attentive(model)
    limited = copy.copy(model)

    async def execute(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async with gate.passing(), aclosing(model.execute(*args, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    limited.execute = execute  # type: ignore[method-assign]  # this object only, not its class
    return limited
