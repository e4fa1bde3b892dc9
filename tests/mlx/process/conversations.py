"""A scripted engine, all of whose lines a test reads and writes."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.engine.requests import CancelToken, Done, Limits, Started
from llm_tiered.mlx.process import client, frames
from llm_tiered.mlx.process.remote import RemoteEngine
from tests.mlx.engine.client import make_request
from tests.mlx.models import PATIENCE
from tests.mlx.process.engines import ScriptedEngine

if TYPE_CHECKING:
    import socket

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


def ask(
    conversations: Conversations, text: str = "Hello", **fields: Any
) -> tuple[queue.SimpleQueue[Event], CancelToken]:
    """Ask the engine, and return where its events go."""
    running = conversations.running
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    token = CancelToken()
    engine = RemoteEngine(lambda _: running, Limits(keep_warm=60), running)
    engine.submit(make_request(Path("/nowhere"), text, **fields), events.put, token)
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
