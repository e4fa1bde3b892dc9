"""How many requests run at the same time, how many start each minute, and when all of them wait.

The limits apply to the models that do the work, not to rows: a fallback of `tiered` from a local
model to the cloud counts, and so does a retry in the cloud.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import llm
from llm.models import ModelWithAliases

from .. import openai_plugin
from ..config.settings import load_settings
from ..endings import attentive
from ..endpoints.models import AsyncServerModel, ServerModel
from ..endpoints.pool import concurrency_of
from ..router.failures import explain
from ..router.model import AsyncTieredModel
from ..router.threads import ThreadedModel
from .waiting import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from ..config.tiers import Tier

logger = logging.getLogger("llm_tiered")

AsyncModel: TypeAlias = "llm.AsyncModel | llm.AsyncKeyModel"

# Concurrent requests to local models. The engine batches these; more would only wait there.
LOCAL_CONCURRENCY = 64


class LimitInAnswer(llm.ModelError):
    """A model came to its limit after an answer had begun; a pause has begun, too."""


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


def limit(  # noqa: PLR0913, PLR0917 - one for each limit
    model: AsyncModel,
    concurrency: int,
    rate: float | None,
    wait: float = 0.0,
    tell: Callable[[str], None] = logger.warning,
    local_concurrency: int = LOCAL_CONCURRENCY,
) -> AsyncModel:
    """Return the model with limits; `concurrency` and `rate` (per minute) apply to the cloud.

    The servers of a tier have a limit of their own, in the config.
    A model in the cloud that is at the limit of its service is waited for, up to `wait` seconds;
    `tell` receives a line about that. The limits of `tiered` are those of the models behind it.
    """
    cloud, local = Gate(concurrency, rate), Gate(local_concurrency)

    def limited(inner: AsyncModel) -> Any:
        if is_local(inner):
            return _limited(inner, local, Pause(inner.model_id, 0.0, tell))
        return _limited(inner, cloud, Pause(inner.model_id, wait, tell))

    if not isinstance(model, AsyncTieredModel):
        alone: AsyncModel = limited(model)
        return alone
    entries = [
        replace(
            entry,
            async_model=limited(_as_in_a_chain(entry.async_model or ThreadedModel(entry.model))),
        )
        for entry in llm.get_models_with_aliases()
    ]
    kind: Any = ModelWithAliases  # its annotations leave out the models that take a key
    entries += [
        kind(ServerModel(tier), _limited_server(tier, wait, tell), set())
        for tier in load_settings().tiers
        if tier.server
    ]
    return AsyncTieredModel(entries)


def _limited_server(tier: Tier, wait: float, tell: Callable[[str], None]) -> AsyncModel:
    """The model of a tier's servers, which all rows wait for if it is at its limit."""
    return _limited(
        AsyncServerModel(tier), Gate(concurrency_of(tier)), Pause(tier.model_id, wait, tell)
    )


def _as_in_a_chain(model: AsyncModel) -> AsyncModel:
    """The model as `tiered` asks it: with its limits, it is not what makes the request any more."""
    asked: AsyncModel = openai_plugin.without_retries(attentive(model))
    return asked


def is_local(model: AsyncModel) -> bool:
    """Whether the model runs on this machine."""
    return getattr(model, "runs_here", False)


def _limited(model: AsyncModel, gate: Gate, pause: Pause) -> AsyncModel:
    # First, since it replaces `execute` too.
    model = attentive(model)
    limited = copy.copy(model)

    async def execute(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        again = True
        while again:
            # Reasoning is held back until the answer begins, so that it is not there twice if the
            # service breaks off and is asked again.
            held: list[Any] = []
            begun = again = False
            async with pause.turn() as turn, gate.passing():
                try:
                    async with aclosing(model.execute(*args, **kwargs)) as chunks:
                        async for chunk in chunks:
                            pause.accept(turn)
                            held.append(chunk)
                            begun = begun or _begins(chunk)
                            while begun and held:
                                yield held.pop(0)
                except Exception as error:
                    if not pause.refuse(explain(error, model=model)):
                        raise
                    if begun:
                        raise LimitInAnswer(str(error)) from error
                    again = True
                while held and not again:
                    yield held.pop(0)

    limited.execute = execute  # type: ignore[method-assign]  # this object only, not its class
    return limited


def _begins(chunk: Any) -> bool:
    """Whether the answer begins with this event; a plain string is a piece of it."""
    if isinstance(chunk, str):
        return bool(chunk)
    return bool(chunk.chunk) and chunk.type != "reasoning"
