"""The events of answers on their way from the worker's thread to the socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..engine.requests import CancelToken, Done, Failed, Started, Waiting
from ..mailbox import mailbox
from . import frames, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Send

    from ..engine.requests import Event

# Seconds between two looks at whether a heartbeat is needed.
HEARTBEAT_AFTER = 5.0


class Outbox:
    """The lines for one caller. What comes while the socket has no room is sent together."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._wake = asyncio.Event()
        self._is_closed = False

    def add(self, line: bytes) -> None:
        """Send a line soon: a step of a batch has one for each answer, and they go together."""
        self._lines.append(line)
        self._wake.set()

    def close(self) -> None:
        """Send what is there, and then nothing more."""
        self._is_closed = True
        self._wake.set()

    async def send_to(self, send: Send) -> None:
        """Send lines as they come, until it is closed."""
        is_over = False
        while not is_over:
            await self._wake.wait()
            self._wake.clear()
            is_over = self._is_closed
            body, self._lines = b"".join(self._lines), []
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})


class EventStream:
    """Takes the events of one request on any thread, and sends them as lines of JSON.

    `others` returns how many other requests the engine has.
    """

    def __init__(self, number: int, outbox: Outbox, others: Callable[[], int]) -> None:
        self.has_started = False
        self.cancel_token = CancelToken()
        self.ended = asyncio.Event()
        self._number = number
        self._outbox = outbox
        self._others = others
        self._box = mailbox()
        self._is_quiet = False
        self._beat()

    def put(self, event: Event) -> None:
        """Add an event. Raises RuntimeError once the event loop is closed."""
        self._box.post(self._take, event)

    def cancel(self) -> None:
        """Send nothing more: nobody reads it. On the event loop only."""
        self.cancel_token.cancel()
        self._timer.cancel()
        self.ended.set()

    def _take(self, event: Event) -> None:
        if self.ended.is_set():
            return
        self._is_quiet = False
        self._outbox.add(frames.answer(self._number, event))
        self.has_started = self.has_started or isinstance(event, Started)
        if isinstance(event, (Done, Failed)):
            self.cancel()

    def _beat(self) -> None:
        """Send a heartbeat if nothing was sent since the last look."""
        if self._is_quiet:
            others = 0 if self.has_started else self._others()
            waiting = frames.answer(self._number, Waiting(others))
            self._outbox.add(waiting if others else wire.HEARTBEAT)
        self._is_quiet = True
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_AFTER, self._beat)
