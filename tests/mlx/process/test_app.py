"""What callers get from the engine's process while its worker has no time for them."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import EngineError
from llm_tiered.mlx.engine.requests import CancelToken, Done, Failed, Started, Waiting
from llm_tiered.mlx.process import choice, client, stream
from llm_tiered.mlx.process.connection import EngineConnection
from llm_tiered.mlx.process.place import places
from tests.mlx.engine.client import make_request
from tests.mlx.models import PATIENCE
from tests.mlx.process.engines import WARM, engine_on_a_thread, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_tiered.mlx.engine.requests import Event

pytestmark = pytest.mark.usefixtures("user_path")

DONE = Done("stop", 1, 0, 1, 1.0, 1.0, 1, 0.0, 0.0)


class StuckEngine:
    """An engine that has no time for a request before `free` is set."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.free = threading.Event()
        self._is_full = is_full

    def submit(self, _: Any, emit: Any, token: CancelToken, *, wait: bool = True) -> bool:
        """Answer, as soon as there is time."""
        if self._is_full:
            if not wait:
                return False
            self._answer(emit)
        else:
            threading.Thread(target=self._answer, args=(emit,)).start()
        return True

    def _answer(self, emit: Any) -> None:
        self.free.wait(PATIENCE)
        # The event loop may be closed by then.
        with suppress(RuntimeError):
            emit(Started())
            emit(DONE)

    def models(self) -> list[Any]:
        """No models are in memory."""
        return []

    def close(self) -> None:
        """The worker does not notice this."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats are sent soon. The engine is this process, and must not be killed."""
    monkeypatch.setattr(stream, "HEARTBEAT_AFTER", 0.01)
    monkeypatch.setattr(EngineConnection, "send_signal", lambda *_: None)


def ask() -> queue.SimpleQueue[Event]:
    """Ask the engine that runs for an answer, and return where its events go."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    request = make_request(Path("/nowhere"), "Hello")
    choice.engine_for(request.model, WARM).submit(request, events.put, CancelToken())
    return events


@pytest.mark.parametrize("is_full", [False, True], ids=["busy", "full"])
def test_waiting_is_shown(is_full: bool) -> None:
    """Requests that wait hear of it, however long it takes, and are answered at last."""
    engine = StuckEngine(is_full=is_full)
    with engine_on_a_thread(engine=engine):
        both = [ask(), ask()]
        for events in both:
            for _ in range(10):
                assert events.get(timeout=PATIENCE) == Waiting(1)
        engine.free.set()
        for events in both:
            while isinstance(event := events.get(timeout=PATIENCE), Waiting):
                pass
            assert event == Started()
            assert events.get(timeout=PATIENCE) == DONE


def test_worker_that_does_not_notice_the_end() -> None:
    """If the engine has to leave at once, requests get an error, and no crash is noted."""
    engine = StuckEngine()
    with engine_on_a_thread(engine=engine):
        events = ask()
        running = wait_for(lambda: (now := client.running()) and now.status["waiting"] and now)
        client.leave(running, now=True)
        event = events.get(timeout=PATIENCE)
        assert isinstance(event, Failed)
        assert isinstance(event.error, EngineError)
        assert "closed" in event.error.message
    engine.free.set()
    assert not places()[0].crashes.exists()


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    """No thread of a stuck engine outlives the test."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
