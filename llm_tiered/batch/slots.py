"""Slots for requests that run at the same time, whose number may change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Slots:
    """An asynchronous context for each request; entering it waits for a free slot.

    `number` returns how many there are. A larger number is noticed as soon as a request ends.
    """

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._taken = 0
        self._ended = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._ended:
            # Without any, one request is there for the first worker that comes.
            await self._ended.wait_for(lambda: self._taken < max(self._number(), 1))
            self._taken += 1

    async def __aexit__(self, *_: object) -> None:
        async with self._ended:
            self._taken -= 1
            self._ended.notify(max(self._number() - self._taken, 1))
