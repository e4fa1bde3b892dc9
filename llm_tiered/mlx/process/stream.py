"""The events of one answer on their way from the worker's thread to the socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..engine.requests import Done, Failed, Started, Waiting
from ..mailbox import mailbox
from . import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Send

    from ..engine.requests import Event

# Seconds between two looks at whether a heartbeat is needed.
HEARTBEAT_AFTER = 5.0


class EventStream:
    """Takes the events of one request on any thread, and sends them as lines of JSON.

    `others` returns how many other requests the engine has.
    """

    def __init__(self, others: Callable[[], int]) -> None:
        self.has_started = False
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._box = mailbox()
        self._lines: list[bytes] = []
        self._wake = asyncio.Event()
        self._is_quiet = False
        self._has_ended = False

    def put(self, event: Event) -> None:
        """Add an event. Raises RuntimeError once the event loop is closed."""
        self._box.post(self._take, event)

    def end(self) -> None:
        """Send nothing more: nobody reads it. On the event loop only."""
        self._has_ended = True
        self._wake.set()

    async def send_to(self, send: Send) -> None:
        """Send the events as they come, up to the last one, and heartbeats between them."""
        self._beat()
        try:
            while not self._has_ended:
                await self._wake.wait()
                self._wake.clear()
                body, self._lines = b"".join(self._lines), []
                self._is_quiet = False
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            self._timer.cancel()

    def _take(self, event: Event) -> None:
        if self._has_ended:
            return
        self._lines.append(wire.dump_event(event))
        self.has_started = self.has_started or isinstance(event, Started)
        self._has_ended = self._has_ended or isinstance(event, (Done, Failed))
        self._wake.set()

    def _beat(self) -> None:
        """Send a heartbeat if nothing was sent since the last look."""
        if self._is_quiet:
            others = 0 if self.has_started else self._others()
            self._lines.append(wire.dump_event(Waiting(others)) if others else wire.HEARTBEAT)
            self._wake.set()
        self._is_quiet = True
        self._timer = self._loop.call_later(HEARTBEAT_AFTER, self._beat)
