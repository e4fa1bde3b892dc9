"""What must not harm the requests that share a connection."""

from __future__ import annotations

import os
import queue
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import RequestError
from llm_tiered.mlx.engine.requests import CancelToken, Done, Failed, Limits, Started
from llm_tiered.mlx.process import frames, remote
from llm_tiered.mlx.process.reader import READER
from llm_tiered.mlx.process.remote import RemoteEngine
from llm_tiered.mlx.tokens.decoding import Text
from tests.mlx.engine.client import make_request
from tests.mlx.models import PATIENCE
from tests.mlx.process.conversations import DONE, ask, begin, line_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from llm_tiered.mlx.process.channel import Channel
    from tests.mlx.process.conversations import Conversations


def in_time(call: Callable[[], object]) -> None:
    """Make a call that must not wait for anything."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def latest() -> Channel:
    """The channel that requests join."""
    channel = READER.latest
    assert channel
    return channel


class CancellingSocket:
    """A socket that cancels a request each time that something is sent."""

    def __init__(self, stream: socket.socket, token: CancelToken) -> None:
        self._stream = stream
        self._token = token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def send(self, data: bytes) -> int:
        """Cancel the request, and send the data."""
        self._token.cancel()
        return self._stream.send(data)


def test_cancelled_while_another_is_written(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python may close an abandoned answer at any moment, also while a request is written."""
    _, _, stream = begin(conversations)
    _, token = ask(conversations)
    assert line_of(stream)[0] == 2
    question = frames.question

    def question_and_cancel(*arguments: Any) -> bytes:
        token.cancel()
        return question(*arguments)

    monkeypatch.setattr(frames, "question", question_and_cancel)
    in_time(lambda: ask(conversations))
    assert line_of(stream) == (2, None)
    assert line_of(stream)[0] == 3
    stream.sendall(frames.answer(1, DONE) + frames.answer(3, DONE))


def test_cancelled_while_another_is_sent(conversations: Conversations) -> None:
    """The same holds while it is sent: no line is sent twice, or within another."""
    _, _, stream = begin(conversations)
    _, token = ask(conversations)
    assert line_of(stream)[0] == 2
    connection = latest().connection
    connection.stream = CancellingSocket(latest().stream, token)  # type: ignore[assignment]
    in_time(lambda: ask(conversations))
    assert line_of(stream)[0] == 3
    assert line_of(stream) == (2, None)
    in_time(lambda: ask(conversations))
    assert line_of(stream)[0] == 4
    stream.sendall(b"".join(frames.answer(number, DONE) for number in (1, 3, 4)))


def test_first_request_cancelled_early(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation of the request that opens a connection does not end those that join it."""
    add, is_added = READER.add, threading.Event()
    tokens: queue.SimpleQueue[CancelToken] = queue.SimpleQueue()

    def add_and_cancel(channel: Channel) -> None:
        add(channel)
        is_added.set()
        tokens.get(timeout=PATIENCE).cancel()

    monkeypatch.setattr(READER, "add", add_and_cancel)
    _, token = ask(conversations)
    stream = conversations.stream()
    assert is_added.wait(PATIENCE)
    second, _ = ask(conversations)
    assert line_of(stream)[0] == 2
    tokens.put(token)
    assert line_of(stream) == (1, None)
    stream.sendall(frames.answer(2, DONE))
    assert second.get(timeout=PATIENCE) == DONE


def test_thread_that_is_busy(conversations: Conversations) -> None:
    """However often the reader's thread is woken while it is busy, nobody waits for it."""
    is_busy, is_over = threading.Event(), threading.Event()
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def emit(event: object) -> None:
        is_busy.set()
        assert is_over.wait(PATIENCE)
        events.put(event)

    running = conversations.running
    engine = RemoteEngine(lambda _: running, Limits(keep_warm=60), running)
    engine.submit(make_request(Path("/nowhere"), "Hello"), emit, CancelToken())
    stream = conversations.stream()
    stream.sendall(frames.answer(1, Started()))
    assert is_busy.wait(PATIENCE)

    def wake_often() -> None:
        for _ in range(2000):
            READER.wake()

    in_time(wake_often)
    is_over.set()
    stream.sendall(frames.answer(1, DONE))
    assert [events.get(timeout=PATIENCE) for _ in range(2)] == [Started(), DONE]


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "other"])
def test_request_that_is_nested_too_deeply(
    is_first: bool, conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails, and makes room for the next one."""
    schema: dict[str, Any] = {}
    for _ in range(20_000):
        schema = {"items": schema}
    stream = None if is_first else begin(conversations)[-1]
    monkeypatch.setattr(remote, "_slots", threading.BoundedSemaphore(1))
    for _ in range(2):
        events, _ = ask(conversations, schema=schema)
        failed = events.get(timeout=PATIENCE)
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, RequestError)
        assert "can't be written as JSON" in failed.error.message
    if stream:
        monkeypatch.undo()
        stream.sendall(frames.answer(1, DONE))


def test_no_thread_left(conversations: Conversations, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread for a request, it fails, and makes room for the next one."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(remote, "_slots", threading.BoundedSemaphore(1))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            events, _ = ask(conversations)
            failed = events.get(timeout=PATIENCE)
            assert isinstance(failed, Failed)
            assert "can't start new thread" in failed.error.message


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes can't be forked")
def test_forked_process(conversations: Conversations) -> None:
    """A process that is forked in the middle of an answer leaves it to its parent.

    It does not keep the parent's connection open either.
    """
    events, token, stream = begin(conversations)
    channel = latest()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        with channel._lock:
            token.cancel()
        is_closed = channel.connection.stream is None or channel.connection.stream.fileno() < 0
        os._exit(0 if is_closed and READER.latest is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    stream.sendall(frames.answer(1, Text("Hello")))
    assert events.get(timeout=PATIENCE) == Text("Hello")
    second, _ = ask(conversations)
    assert line_of(stream)[0] == 2
    stream.sendall(frames.answer(1, DONE) + frames.answer(2, DONE))
    assert isinstance(events.get(timeout=PATIENCE), Done)
    assert second.get(timeout=PATIENCE) == DONE
