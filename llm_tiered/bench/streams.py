"""Clients that read streamed answers at the same time, and the times of each."""

from __future__ import annotations

import http.client
import json
import re
import selectors
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ..errors import TieredError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

# Without a byte from any of them for this long, a server hangs.
SILENCE = 120.0  # seconds

# Seconds between two connections: mlx_lm.server lets five wait to be accepted, and TCP tries again
# a second later.
PACE = 0.005

_DONE = b"data: [DONE]"
_EVENT = re.compile(rb"data: (\{.*?\})\r?\n\r?\n", re.DOTALL)


@dataclass(frozen=True)
class Streamed:
    """A streamed answer: seconds to its first piece of text and to its end, and its tokens."""

    first: float
    total: float
    tokens: int


@dataclass(frozen=True)
class Crowd:
    """The answers to prompts that were sent at the same time."""

    answers: tuple[Streamed, ...]

    @property
    def rate(self) -> float:
        """Output tokens per second of all of them together."""
        return sum(one.tokens for one in self.answers) / self.slowest

    @property
    def first(self) -> float:
        """Seconds to the first piece of text, for the median client."""
        return median(one.first for one in self.answers)

    @property
    def median(self) -> float:
        """Seconds to the end, for the median client."""
        return median(one.total for one in self.answers)

    @property
    def slowest(self) -> float:
        """Seconds to the end, for the slowest client."""
        return max(one.total for one in self.answers)


class _Stream:
    """One connection: what has arrived on it, and when."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=SILENCE)
        self._connection.connect()
        self._started = 0.0
        self._data = bytearray()
        self._arrivals: list[tuple[int, float]] = []

    @property
    def socket(self) -> socket.socket:
        return self._connection.sock

    def send(self, body: bytes) -> None:
        self._started = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/v1/chat/completions", body, headers)

    def receive(self) -> bool:
        """Take what has arrived; return whether more will come."""
        piece = self.socket.recv(65536)
        self._data += piece
        self._arrivals.append((len(self._data), time.perf_counter() - self._started))
        # A server may keep the connection open after the last event.
        return bool(piece) and _DONE not in self._data[-64:]

    def close(self) -> None:
        self._connection.close()

    def answer(self) -> Streamed:
        """Return the answer. Raises TieredError if it is not whole.

        Nothing is parsed before, since clients share the cores with the servers.
        """
        first, tokens = None, 0
        for match in _EVENT.finditer(self._data):
            event: dict[str, Any] = json.loads(match[1])
            choices = event.get("choices") or [{}]
            if first is None and choices[0].get("delta", {}).get("content"):
                first = next(at for size, at in self._arrivals if size >= match.end())
            if usage := event.get("usage"):
                tokens = usage["completion_tokens"]
        if first is None or not tokens:
            start = bytes(self._data[:300]).decode("utf-8", "replace")
            raise TieredError(f"the server did not answer: {' '.join(start.split())}")
        if _DONE not in self._data:
            raise TieredError(f"the stream of an answer broke off after {tokens} tokens")
        return Streamed(first, self._arrivals[-1][1], tokens)


def ask_all(address: tuple[str, int], bodies: Sequence[Mapping[str, Any]]) -> Crowd:
    """Ask a server all of this at the same time. Raises TieredError or OSError.

    The connections are made before that, one after the other.
    """
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        streams = []
        for _ in bodies:
            stream = _Stream(address)
            stack.callback(stream.close)
            streams.append(stream)
            selector.register(stream.socket, selectors.EVENT_READ, stream)
            time.sleep(PACE)
        for stream, body in zip(streams, bodies, strict=True):
            stream.send(json.dumps(body).encode())
        open_streams = len(streams)
        while open_streams:
            ready = selector.select(SILENCE)
            if not ready:
                raise TieredError(f"the server sent nothing for {SILENCE:.0f} s")
            for key, _ in ready:
                if not key.data.receive():
                    selector.unregister(key.fileobj)
                    open_streams -= 1
        return Crowd(tuple(stream.answer() for stream in streams))
