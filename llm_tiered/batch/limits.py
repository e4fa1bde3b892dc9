"""How many requests run at a time, and how many start a minute.

The limits stand around the models that do the work, not around rows: when `tiered` falls back
from a local model to the cloud, or tries the cloud again, that counts as well.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import llm

from ..router.model import AsyncTieredModel
from ..router.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

AsyncModel: TypeAlias = "llm.AsyncModel | llm.AsyncKeyModel"

# Requests to local models under way. The engine batches what it has; more would only wait there.
LOCAL_CONCURRENCY = 64


class Gate:
    """Lets so many requests through at a time, and starts so many a minute at most."""

    def __init__(self, concurrency: int, rate: float | None = None) -> None:
        self._room = asyncio.Semaphore(concurrency)
        self._interval = 60 / rate if rate else 0.0
        self._next = 0.0

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Wait until there is room, and hold it for as long as the context lasts."""
        async with self._room:
            now = asyncio.get_running_loop().time()
            start = max(now, self._next)
            self._next = start + self._interval
            if start > now:
                await asyncio.sleep(start - now)
            yield


def limit(model: AsyncModel, concurrency: int, rate: float | None) -> AsyncModel:
    """The same model within limits; `concurrency` and `rate` (a minute) are those of the cloud."""
    cloud, local = Gate(concurrency, rate), Gate(LOCAL_CONCURRENCY)

    def limited(inner: AsyncModel) -> Any:
        return _limited(inner, local if is_local(inner) else cloud)

    if not isinstance(model, AsyncTieredModel):
        found: AsyncModel = limited(model)
        return found
    entries = [
        replace(entry, async_model=limited(entry.async_model)) if entry.async_model else entry
        for entry in llm.get_models_with_aliases()
    ]
    return AsyncTieredModel(Registry(entries))


def is_local(model: AsyncModel) -> bool:
    """Whether the model runs on this machine."""
    return getattr(model, "runs_here", False)


def _limited(model: AsyncModel, gate: Gate) -> AsyncModel:
    found = copy.copy(model)

    async def execute(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async with gate.passing(), aclosing(model.execute(*args, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    found.execute = execute  # type: ignore[method-assign]  # this one object, not its class
    return found
