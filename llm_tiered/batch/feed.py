"""A blocking iterator, read on a thread → an async iterator."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

T = TypeVar("T")

# Items read before they are needed.
_AHEAD = 64
_END = object()


async def feed(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield the items of an iterator, read slightly ahead on a thread. Raises its errors.

    Standard input may be silent for hours: meanwhile answers arrive and Ctrl-C works. The thread
    is a daemon because nothing can interrupt its read.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    closed = threading.Event()

    def send(item: Any) -> None:
        # The loop may be closed by now: nobody needs the remaining items.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, item)

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
    try:
        while (item := await queue.get()) is not _END:
            if isinstance(item, Exception):
                raise item
            room.release()
            yield item
    finally:
        closed.set()
        room.release()
