"""Events on their way from the engine's thread to an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

if TYPE_CHECKING:
    from collections.abc import Callable


class Mailbox:
    """Hands values from other threads to functions that run on an event loop, in order.

    All that come while the loop is busy are handed over together. To wake the loop for each of
    them would cost more than to pass them on: a batch has a token for every request at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop's entry among the mailboxes would keep it for ever.
        self._loop = ref(loop)
        self._letters: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._is_called = False

    def post(self, receiver: Callable[[Any], object], value: Any) -> None:
        """Let the loop call the receiver with a value. Raises RuntimeError if it is closed."""
        loop = self._loop()
        if loop is None:
            raise RuntimeError("the event loop is closed")
        self._letters.append((receiver, value))
        if not self._is_called:
            self._is_called = True
            try:
                loop.call_soon_threadsafe(self._hand_over)
            except RuntimeError:
                self._is_called = False
                self._letters.clear()
                raise

    def _hand_over(self) -> None:
        # Before the first look: what is posted after the last one calls again.
        self._is_called = False
        while self._letters:
            receiver, value = self._letters.popleft()
            receiver(value)


_MAILBOXES: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakKeyDictionary()


def mailbox() -> Mailbox:
    """Return the mailbox of the running event loop."""
    loop = asyncio.get_running_loop()
    box = _MAILBOXES.get(loop)
    if box is None:
        box = _MAILBOXES[loop] = Mailbox(loop)
    return box
