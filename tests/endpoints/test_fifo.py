from __future__ import annotations

import asyncio
import threading

import pytest

from llm_tiered.endpoints.fifo import FifoSemaphore


def test_no_limit() -> None:
    """Without a limit nobody waits."""
    room = FifoSemaphore(None)
    with room.hold(), room.hold(), room.hold():
        pass


def test_tasks_take_turns_in_order() -> None:
    """Tasks get their turn in the order in which they came, and never too many at once."""

    async def run() -> tuple[list[int], int]:
        room, order, inside, most = FifoSemaphore(2), list[int](), 0, 0

        async def hold(number: int) -> None:
            nonlocal inside, most
            async with room.hold_async():
                order.append(number)
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*map(hold, range(20)))
        return order, most

    assert asyncio.run(run()) == (list(range(20)), 2)


def test_threads_and_tasks_share_the_limit() -> None:
    """A task waits for a thread that holds the only place."""
    room, holds, release = FifoSemaphore(1), threading.Event(), threading.Event()

    def in_thread() -> None:
        with room.hold():
            holds.set()
            release.wait()

    async def run() -> bool:
        waiting = asyncio.create_task(_hold(room))
        await asyncio.sleep(0)
        early = waiting.done()
        release.set()
        await waiting
        return early

    thread = threading.Thread(target=in_thread)
    thread.start()
    holds.wait()
    assert not asyncio.run(run())
    thread.join()


async def _hold(room: FifoSemaphore) -> None:
    async with room.hold_async():
        pass


@pytest.mark.parametrize("at", ["in line", "at its turn"])
def test_cancelled_task_keeps_nothing(at: str) -> None:
    """A task that is cancelled, even as its turn comes, leaves its place to the next."""

    async def run() -> None:
        room = FifoSemaphore(1)
        async with room.hold_async():
            first, second = (asyncio.create_task(_hold(room)) for _ in range(2))
            await asyncio.sleep(0)
            if at == "in line":
                first.cancel()
        if at == "at its turn":
            first.cancel()
        await asyncio.wait_for(second, 1)
        async with room.hold_async():
            pass

    asyncio.run(run())


def test_error_gives_the_place_back() -> None:
    """A block that raises holds nothing any more."""
    room = FifoSemaphore(1)
    with pytest.raises(RuntimeError), room.hold():
        raise RuntimeError
    with room.hold():
        pass
