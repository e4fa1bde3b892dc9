"""Until when the engine stays."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lifetime:
    """Keeps the engine as long as anybody asks or holds it, and for `keep_warm` seconds after that.

    Used on the event loop only.
    """

    def __init__(self, keep_warm: float) -> None:
        self.is_leaving = False
        self.keep_warm = keep_warm
        self._is_wanted = True
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()
        self._wait()

    @property
    def is_idle(self) -> bool:
        """Whether nobody asks or holds it."""
        return self._users == 0

    @property
    def until(self) -> float | None:
        """When it leaves if nobody asks until then, in seconds since 1970; None if it is held."""
        if self._timer is None:
            return None
        return time.time() + self._timer.when() - asyncio.get_running_loop().time()

    @contextmanager
    def use(self, keep_warm: float | None = None) -> Iterator[None]:
        """Stay during the block, and from its end on for so many seconds, or as many as before."""
        self._users += 1
        if self._timer:
            self._timer.cancel()
            self._timer = None
        try:
            yield
        finally:
            if keep_warm is not None:
                self.keep_warm = keep_warm
            self._users -= 1
            if self.is_idle:
                self._wait()

    def leave_when_idle(self) -> None:
        """Leave once nobody asks or holds it, without waiting for others."""
        if self.is_idle:
            self.leave()
        self._is_wanted = False

    def leave(self) -> None:
        """Take no more requests, and leave."""
        self.is_leaving = True
        self._left.set()

    async def wait_until_left(self) -> None:
        """Wait until it is time to leave."""
        await self._left.wait()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.keep_warm if self._is_wanted else 0, self.leave)
