"""All requests of a process on one connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from llm_tiered.mlx.engine.requests import Started
from llm_tiered.mlx.process import frames
from llm_tiered.mlx.process.reader import READER
from llm_tiered.mlx.tokens.decoding import Text
from tests.mlx.models import PATIENCE
from tests.mlx.process.conversations import DONE, ask, begin, line_of

if TYPE_CHECKING:
    from tests.mlx.process.conversations import Conversations


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
