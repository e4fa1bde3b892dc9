"""Events from other threads, handed to an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from llm_tiered.mlx.mailbox import Mailbox, mailbox


def test_all_arrive_in_order() -> None:
    """Whatever several threads post arrives, each thread's values in its own order."""
    threads, values = 4, 300
    got: list[tuple[int, int]] = []

    async def receive() -> None:
        box, complete = mailbox(), asyncio.Event()

        def take(value: tuple[int, int]) -> None:
            got.append(value)
            if len(got) == threads * values:
                complete.set()

        def post(thread: int) -> None:
            for number in range(values):
                box.post(take, (thread, number))

        for thread in range(threads):
            threading.Thread(target=post, args=(thread,)).start()
        await asyncio.wait_for(complete.wait(), 20)

    asyncio.run(receive())
    for thread in range(threads):
        assert [number for each, number in got if each == thread] == list(range(values))


def test_a_busy_loop_is_woken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is posted before the loop looks is handed over together."""
    loop = asyncio.new_event_loop()
    calls: list[object] = []
    monkeypatch.setattr(loop, "call_soon_threadsafe", calls.append)
    box, got = Mailbox(loop), list[int]()
    for number in range(3):
        box.post(got.append, number)
    [call] = calls
    assert got == []
    assert callable(call)
    call()
    assert got == [0, 1, 2]
    box.post(got.append, 3)
    assert len(calls) == 2
    loop.close()


def test_a_closed_loop_is_an_error_each_time() -> None:
    """Nobody posts for ever to a loop that is gone."""
    loop = asyncio.new_event_loop()
    box = Mailbox(loop)
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            box.post(print, 1)


def test_a_loop_has_one() -> None:
    """All requests on a loop share its mailbox, and another loop has another."""

    async def two() -> tuple[Mailbox, Mailbox]:
        return mailbox(), mailbox()

    first, second = asyncio.run(two())
    assert first is second
    assert asyncio.run(two())[0] is not first


def test_a_loop_that_is_gone_is_forgotten() -> None:
    """A program may run one loop after the other: nothing keeps them, and posting is an error."""
    loop = asyncio.new_event_loop()

    async def box_of_loop() -> Mailbox:
        return mailbox()

    box = loop.run_until_complete(box_of_loop())
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
    with pytest.raises(RuntimeError, match="closed"):
        box.post(print, 1)
