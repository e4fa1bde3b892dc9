"""Unloads models that nobody uses: when memory is short, and `keep_warm` after their last use.

Nothing is looked at while no model is in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...wording import gigabytes, span
from . import pressure

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.engine import Engine
    from ..engine.residency import ResidentModel

# Seconds between two looks at the memory. One takes 0.2 ms.
INTERVAL = 5.0

# The latest models that were unloaded, which `llm tiered ps` shows.
_REMEMBERED = 5

logger = logging.getLogger("llm_tiered")


@dataclass(frozen=True)
class Unloaded:
    """A model that was unloaded: when, in seconds since 1970, how many bytes it had, and why."""

    name: str
    bytes: int
    at: float
    reason: str


class Unloading:
    """Watches over the models of an engine as long as there are any.

    `keep_warm` returns for how many seconds a model stays after its last use, `is_asked` whether
    anybody asks the engine at the moment. Used on the event loop only.
    """

    def __init__(
        self, engine: Engine, keep_warm: Callable[[], float], is_asked: Callable[[], bool]
    ) -> None:
        self.latest: deque[Unloaded] = deque(maxlen=_REMEMBERED)
        self._engine = engine
        self._keep_warm = keep_warm
        self._is_asked = is_asked
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begin to watch, since somebody asks. It ends by itself."""
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while self._is_asked() or self._engine.models():
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Unload what has to go now."""
        if not self._engine.models():
            return
        now, short = time.time(), pressure.read()
        reasons: dict[str, str] = {}

        def choose(idle: list[ResidentModel]) -> list[str]:
            unused = {model.name: now - model.last_used for model in idle}
            for name, seconds in unused.items():
                if seconds >= self._keep_warm():
                    reasons[name] = f"not used for {span(seconds)}"
            if short:
                left = {name: each for name, each in unused.items() if name not in reasons}
                reasons.update(dict.fromkeys(pressure.to_let_go(short, left), short.reason))
            return list(reasons)

        for model in await asyncio.wrap_future(self._engine.unload(choose)):
            reason = reasons[model.name]
            self.latest.append(Unloaded(model.name, model.memory, now, reason))
            logger.warning("unloaded: %s (%s), %s", model.name, gigabytes(model.memory), reason)
