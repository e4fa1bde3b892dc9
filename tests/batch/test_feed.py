"""Rows from an iterator that blocks."""

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


async def test_all_in_order() -> None:
    """Everything comes through, in order, and the thread ends."""
    async with aclosing(feed(iter(range(1000)))) as items:
        assert [item async for item in items] == list(range(1000))
    for thread in threads():
        thread.join()


async def test_error() -> None:
    """What the iterator raises is raised, behind what it gave before."""

    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    read = []
    with pytest.raises(ValueError, match="broken"):
        async for item in feed(numbers()):
            read.append(item)  # noqa: PERF401 - what came before the error
    assert read == [1]


async def test_given_up() -> None:
    """An endless iterator is not read far ahead, and no longer once nobody listens."""
    taken = itertools.count()
    async with aclosing(feed(iter(taken))) as items:
        assert await anext(items) == 0
        [thread] = threads()
    thread.join()
    assert next(taken) < 200


async def test_blocking() -> None:
    """While the iterator blocks, the loop goes on."""
    more = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        more.wait()
        yield 2

    async with aclosing(feed(numbers())) as items:
        assert await anext(items) == 1
        more.set()
        assert await anext(items) == 2
