"""A blocking iterator as an async iterator."""

from __future__ import annotations

import itertools
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from llm_tiered.batch.feed import feed

if TYPE_CHECKING:
    from collections.abc import Iterator


def threads() -> list[threading.Thread]:
    """The threads that read."""
    return [thread for thread in threading.enumerate() if thread.name == "rows"]


async def test_all_items_in_order() -> None:
    """All items arrive in order, and the thread ends."""
    async with aclosing(feed(iter(range(1000)))) as items:
        assert [item async for item in items] == list(range(1000))
    for thread in threads():
        thread.join()


async def test_error() -> None:
    """An error of the iterator is raised after the items before it."""

    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    async with aclosing(feed(numbers())) as items:
        assert await anext(items) == 1
        with pytest.raises(ValueError, match="broken"):
            await anext(items)


async def test_closed_early() -> None:
    """An endless iterator is read only slightly ahead, and not at all once the feed is closed."""
    source = itertools.count()
    async with aclosing(feed(iter(source))) as items:
        assert await anext(items) == 0
        [thread] = threads()
    thread.join()
    assert next(source) < 200


async def test_blocking_iterator() -> None:
    """The event loop continues while the iterator blocks."""
    more = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        more.wait()
        yield 2

    async with aclosing(feed(numbers())) as items:
        assert await anext(items) == 1
        more.set()
        assert await anext(items) == 2
