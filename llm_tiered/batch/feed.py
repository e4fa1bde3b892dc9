"""An iterator that blocks → one for asyncio."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

T = TypeVar("T")

_AHEAD = 64
_END = object()


async def feed(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """What the iterator gives, read a little ahead on a thread of its own.

    Standard input may have nothing to say for hours: meanwhile, answers come in and Ctrl-C
    works. The thread is a daemon, as nothing can wake it from reading.
    """
    loop = asyncio.get_running_loop()
    read: asyncio.Queue[Any] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    done = threading.Event()

    def send(item: Any) -> None:
        # The loop is closed if nobody wanted the rest.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(read.put_nowait, item)

    def work() -> None:
        try:
            for item in items:
                send(item)
                room.acquire()
                if done.is_set():
                    return
            send(_END)
        except Exception as error:
            send(error)

    threading.Thread(target=work, name="rows", daemon=True).start()
    try:
        while (item := await read.get()) is not _END:
            if isinstance(item, Exception):
                raise item
            room.release()
            yield item
    finally:
        done.set()
        room.release()
