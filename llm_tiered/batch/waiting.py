"""A model at its limit: all rows of a batch wait for it together, as long as it asks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..wording import span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ..router.problem import Problem

# Seconds to wait, from one refusal to the next, where a service does not say how long.
DELAYS = (1.0, 4.0, 15.0, 60.0)

# A pause that grows by fewer seconds is not reported again.
_NEWS = 5.0


class Pause:
    """Holds back the requests to a model from a refusal until the time that the service tells.

    Then one request goes first, and the others follow once it is answered. It waits `patience`
    seconds in all from one answer to the next; 0 means never. `tell` receives a line for people
    when a pause begins and when the patience is at its end.
    """

    def __init__(self, model: str, patience: float, tell: Callable[[str], None]) -> None:
        self._model = model
        self._patience = patience
        self._tell = tell
        self._waited = 0.0
        self._pauses = 0
        self._refusals = 0
        # When the pause ends, in the loop's time, or None if there is none.
        self._until: float | None = None
        # The request that goes first after a pause, while the others wait for its result.
        self._first: object | None = None
        self._gave_up = False
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[int]:
        """Wait until a request may go, and give its number for `accept`.

        Its turn lasts until the context ends.
        """
        await self._wait()
        request = object()
        if self._until is not None:
            self._first = request
        try:
            yield self._refusals
        finally:
            if self._first is request:
                self._first = None
                self._notify()

    def refuse(self, problem: Problem) -> bool:
        """Begin or prolong a pause, and return whether the request should be made again after it.

        It should not if the model is not at its limit, or if the patience is at its end.
        """
        if not problem.at_limit or not self._patience:
            return False
        now = asyncio.get_running_loop().time()
        new = self._until is None or self._until <= now
        before = now if self._until is None else max(self._until, now)
        seconds = self._seconds(problem, new=new)
        until = max(before, now + seconds)
        longer = until - before
        if self._waited + longer > self._patience:
            self._give_up(seconds)
            return False
        self._until = until
        self._waited += longer
        self._refusals += 1
        self._pauses += new
        if new or longer > _NEWS:
            end = datetime.now() + timedelta(seconds=until - now)
            left = span(until - now)
            self._tell(f"{self._model} is at its limit: waiting {left}, until {end:%H:%M:%S}")
        return True

    def accept(self, turn: int) -> None:
        """End the pause: the model answers. An answer to an earlier request says nothing."""
        paused = self._until is not None or self._gave_up
        if paused and turn == self._refusals:
            self._until = self._first = None
            self._waited = 0.0
            self._pauses = 0
            self._gave_up = False
            self._notify()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        while self._until is not None:
            left = self._until - loop.time()
            if left > 0:
                await asyncio.sleep(left)
            elif self._first is None:
                return
            else:
                await self._changed.wait()

    def _seconds(self, problem: Problem, *, new: bool) -> float:
        if problem.retry_after is not None:
            return max(problem.retry_after, DELAYS[0])
        earlier = self._pauses if new else self._pauses - 1
        return DELAYS[min(earlier, len(DELAYS) - 1)]

    def _give_up(self, seconds: float) -> None:
        if not self._gave_up:
            self._tell(
                f"{self._model} is at its limit and asks to wait {span(seconds)} more, "
                f"but --wait allows {span(self._patience)} in all"
            )
        self._gave_up = True
        self._until = None
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
