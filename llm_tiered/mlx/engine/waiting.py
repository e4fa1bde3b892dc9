"""Requests of event loops that wait until an engine has room for them."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from ...forks import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from .job import Emit
    from .requests import CancelToken, GenerationRequest


async def submit_later(
    submit: Callable[[GenerationRequest, Emit, CancelToken], object],
    request: GenerationRequest,
    emit: Emit,
    cancel_token: CancelToken,
) -> None:
    """Call an engine's `submit`, which waits for room, and return then. Raises what it raises."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(_thread(), submit, request, emit, cancel_token)


@functools.cache
def _thread() -> ThreadPoolExecutor:
    """Return the thread on which all of them wait, one after the other.

    On the threads that a loop has for everything, they would hold up all else.
    """
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "waiting")


# The thread is the parent's.
after_fork(_thread.cache_clear)
