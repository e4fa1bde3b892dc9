"""A limit of concurrent requests that threads and asyncio share, first come, first served."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class FifoSemaphore:
    """At most `most` holders at the same time; None means no limit.

    Those that wait get their turn in the order in which they came, threads and tasks alike.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._holders = 0
        self._waiting: deque[Future[None]] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for a turn in this thread, and keep it for the block."""
        turn = self._line_up()
        try:
            turn.result()
            yield
        finally:
            self._leave(turn)

    @asynccontextmanager
    async def hold_async(self) -> AsyncIterator[None]:
        """Async counterpart of `hold`."""
        turn = self._line_up()
        try:
            if not turn.done():
                # Cancelling the task must not cancel a turn that comes at the same moment.
                await asyncio.shield(asyncio.wrap_future(turn))
            yield
        finally:
            self._leave(turn)

    def _line_up(self) -> Future[None]:
        turn: Future[None] = Future()
        with self._lock:
            if self._most is None or self._holders < self._most:
                self._holders += 1
                turn.set_result(None)
            else:
                self._waiting.append(turn)
        return turn

    def _leave(self, turn: Future[None]) -> None:
        """Hand a turn on to the next in line, or leave the line."""
        with self._lock:
            if not turn.done():
                self._waiting.remove(turn)
            elif self._waiting:
                self._waiting.popleft().set_result(None)
            else:
                self._holders -= 1
