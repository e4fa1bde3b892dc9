"""All requests of a process on one connection."""

from __future__ import annotations

import queue
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.engine.requests import CancelToken, Done, Limits, Started
from llm_tiered.mlx.process import client, frames
from llm_tiered.mlx.process.connection import EngineConnection
from llm_tiered.mlx.process.reader import READER
from llm_tiered.mlx.process.remote import RemoteEngine
from llm_tiered.mlx.tokens.decoding import Text
from tests.mlx.engine.client import make_request
from tests.mlx.models import PATIENCE
from tests.mlx.process.engines import ScriptedEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_tiered.mlx.engine.requests import Event

DONE = Done("stop", 1, 0, 1, 1.0, 1.0, 1, 0.0, 0.0)


class Conversations:
    """A scripted engine that takes requests on any number of connections, and notes all lines."""

    def __init__(self) -> None:
        self.streams: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self.over = threading.Event()
        self.engine = ScriptedEngine(self._keep, budget=10**9)
        # It has no time for that later.
        self.running = client.running()

    def _keep(self, stream: socket.socket) -> None:
        self.streams.put(stream)
        assert self.over.wait(PATIENCE)

    def stream(self) -> socket.socket:
        """The next connection."""
        stream = self.streams.get(timeout=PATIENCE)
        stream.settimeout(PATIENCE)
        return stream


@pytest.fixture
def conversations(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Conversations]:
    """An engine that says what the test says. It is this process, and must not be killed."""
    monkeypatch.setattr(EngineConnection, "send_signal", lambda *_: None)
    conversations = Conversations()
    yield conversations
    conversations.over.set()
    conversations.engine.end()


def ask(
    conversations: Conversations, text: str = "Hello"
) -> tuple[queue.SimpleQueue[Event], CancelToken]:
    """Ask the engine, and return where its events go."""
    running = conversations.running
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    token = CancelToken()
    engine = RemoteEngine(lambda _: running, Limits(keep_warm=60), running)
    engine.submit(make_request(Path("/nowhere"), text), events.put, token)
    return events, token


def line_of(stream: socket.socket) -> tuple[int, Any]:
    """The next line that the engine gets."""
    line = b""
    while not line.endswith(b"\n"):
        line += stream.recv(1)
    return frames.read_question(line.removesuffix(b"\n"))


def begin(conversations: Conversations) -> tuple[queue.SimpleQueue[Event], CancelToken, Any]:
    """Ask the first request of a connection, and wait until it has begun."""
    events, token = ask(conversations)
    stream = conversations.stream()
    stream.sendall(frames.answer(1, Started()))
    assert events.get(timeout=PATIENCE) == Started()
    return events, token, stream


def test_requests_share_a_connection(conversations: Conversations) -> None:
    """As long as the engine has a request of the process, others go the same way, and back."""
    first, _, stream = begin(conversations)
    second, _ = ask(conversations)
    assert line_of(stream)[0] == 2
    pieces = [frames.answer(number, Text(f"{number}")) for number in (2, 1, 2)]
    stream.sendall(b"".join(pieces)[:-5])
    stream.sendall(pieces[-1][-5:] + frames.answer(2, DONE))
    assert [second.get(timeout=PATIENCE) for _ in range(3)] == [Text("2"), Text("2"), DONE]
    stream.sendall(frames.answer(1, DONE))
    assert [first.get(timeout=PATIENCE) for _ in range(2)] == [Text("1"), DONE]
    assert stream.recv(1) == b""
    assert conversations.engine.requests.count("POST /generate") == 1


def test_cancelled_among_others(conversations: Conversations) -> None:
    """A request that is cancelled ends by itself, and what still comes of it is passed over."""
    first, _, stream = begin(conversations)
    second, token = ask(conversations)
    assert line_of(stream)[0] == 2
    token.cancel()
    assert line_of(stream) == (2, None)
    stream.sendall(frames.answer(2, Text("late")) + frames.answer(1, DONE))
    assert first.get(timeout=PATIENCE) == DONE
    assert second.empty()


def test_refused(conversations: Conversations) -> None:
    """What an engine that is about to leave does not take goes to the next one."""
    _, _, stream = begin(conversations)
    second, _ = ask(conversations)
    assert line_of(stream)[0] == 2
    stream.sendall(frames.nothing(2))
    # The other request keeps the connection open, and so it goes there once more.
    assert line_of(stream)[0] == 3
    stream.sendall(frames.answer(3, DONE) + frames.answer(1, DONE))
    assert second.get(timeout=PATIENCE) == DONE


def test_engine_that_reads_slowly(conversations: Conversations) -> None:
    """Nobody waits until a long request is sent, and others can be cancelled meanwhile."""
    first, token, stream = begin(conversations)
    length = 4_000_000
    second, _ = ask(conversations, "x" * length)
    token.cancel()
    number, asked = 0, None
    with stream.makefile("rb") as lines:
        number, asked = frames.read_question(lines.readline().removesuffix(b"\n"))
        assert (number, len(asked["request"]["chat"][0]["content"])) == (2, length)
        assert frames.read_question(lines.readline().removesuffix(b"\n")) == (1, None)
        stream.sendall(frames.answer(2, DONE))
        assert second.get(timeout=PATIENCE) == DONE
    assert first.empty()


def test_all_break_off_together(conversations: Conversations) -> None:
    """If the engine dies, each answer that it had begun says so, and none is lost."""
    first, _, stream = begin(conversations)
    second, _ = ask(conversations)
    assert line_of(stream)[0] == 2
    stream.sendall(frames.answer(2, Started()))
    assert second.get(timeout=PATIENCE) == Started()
    stream.shutdown(socket.SHUT_RDWR)
    for events in (first, second):
        assert "killed, or crashed" in str(events.get(timeout=PATIENCE))


def test_server_keeps_its_connection(conversations: Conversations) -> None:
    """A server's next request goes over the same connection, however long the engine is silent."""
    READER.keep_channels(keep=True)
    try:
        first, _, stream = begin(conversations)
        stream.sendall(frames.answer(1, DONE))
        assert first.get(timeout=PATIENCE) == DONE
        second, _ = ask(conversations)
        assert line_of(stream)[0] == 2
        stream.sendall(frames.answer(2, DONE))
        assert second.get(timeout=PATIENCE) == DONE
    finally:
        READER.keep_channels(keep=False)
    assert stream.recv(1) == b""
