"""A blocking iterator, read on a thread → an async iterator."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..mlx.mailbox import mailbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

T = TypeVar("T")

# Items read before they are needed, and how many of them are taken before the thread goes on: to
# wake it for each would take longer than to read it.
_AHEAD = 64
_AT_A_TIME = 16
_END = object()


async def feed(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield the items of an iterator, read slightly ahead on a thread. Raises its errors.

    Standard input may be silent for hours: meanwhile answers arrive and Ctrl-C works. The thread
    is a daemon because nothing can interrupt its read.
    """
    box = mailbox()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    closed = threading.Event()

    def send(item: Any) -> None:
        # The loop may be closed by now: nobody needs the remaining items.
        with suppress(RuntimeError):
            box.post(queue.put_nowait, item)

    def read() -> None:
        try:
            for item in items:
                send(item)
                room.acquire()
                if closed.is_set():
                    return
            send(_END)
        except Exception as error:
            send(error)

    threading.Thread(target=read, name="rows", daemon=True).start()
    taken = 0
    try:
        while (item := await queue.get()) is not _END:
            if isinstance(item, Exception):
                raise item
            taken += 1
            if taken % _AT_A_TIME == 0:
                room.release(_AT_A_TIME)
            yield item
    finally:
        closed.set()
        room.release()
