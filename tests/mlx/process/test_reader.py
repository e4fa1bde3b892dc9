"""One thread that reads the answers to all requests."""

from __future__ import annotations

import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.engine.requests import CancelToken, Done
from llm_tiered.mlx.process import client
from llm_tiered.mlx.process.reader import Reader
from tests.mlx.engine.client import make_request
from tests.mlx.models import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine


def test_receiver_that_fails_harms_no_other(engine: Engine, folder: Path) -> None:
    """If what receives an answer raises an error, that answer ends, and others are read on."""
    running = client.running()
    assert running
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def fail(_: object) -> None:
        raise ValueError("no more, please")

    for emit in (fail, events.put):
        request = make_request(folder, "Hello", max_tokens=20)
        client.generate(running, request, 60.0, emit, CancelToken(), ended.put)
    assert [ended.get(timeout=PATIENCE) for _ in range(2)] == [False, False]
    last = None
    while not events.empty():
        last = events.get()
    assert isinstance(last, Done)


def test_thread_ends_with_the_last_answer(engine: Engine, folder: Path) -> None:
    """While no answer is expected, there is no thread."""
    running = client.running()
    assert running
    ended = threading.Event()
    request = make_request(folder, "Hello", max_tokens=4)
    client.generate(running, request, 60.0, lambda _: None, CancelToken(), lambda _: ended.set())
    assert ended.wait(PATIENCE)
    for thread in threading.enumerate():
        if thread.name == "answers":
            thread.join(PATIENCE)
    assert "answers" not in [thread.name for thread in threading.enumerate()]


class CompleteChannel:
    """A channel whose only answer came whole, together with its headers."""

    def __init__(self) -> None:
        self.stream, self._other = socket.socketpair()
        self.deadline = time.monotonic() + 2 * PATIENCE
        self.is_silent = False
        self.finished = threading.Event()

    def begin(self) -> bool:
        """It has ended."""
        return True

    def finish(self) -> None:
        """Close its connection."""
        self.stream.close()
        self._other.close()
        self.finished.set()


def test_thread_ends_after_an_answer_that_came_whole() -> None:
    """If nothing is left to wait for, the thread does not wait."""
    reader, answer = Reader(), CompleteChannel()
    before = set(threading.enumerate())
    reader.add(answer)  # type: ignore[arg-type]  # all that a reader needs of one
    [thread] = [*(set(threading.enumerate()) - before)] or [threading.Thread()]
    assert answer.finished.wait(PATIENCE)
    if thread.ident:
        thread.join(PATIENCE)
    assert not thread.is_alive()
