"""Ctrl-C in asyncio, the same on every Python: 3.10 would raise KeyboardInterrupt anywhere."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def on_ctrl_c(act: Callable[[], object]) -> Iterator[None]:
    """Call `act` in the event loop at the first Ctrl-C; the second one ends the process."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    pressed = False

    def handle(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        loop.call_soon_threadsafe(act)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if not pressed:
            signal.signal(signal.SIGINT, before)
