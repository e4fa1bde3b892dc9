"""How the server listens, what it does with clients that wait, and how it ends."""

from __future__ import annotations

import asyncio
import resource
import signal
import threading
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llm_tiered.errors import RequestError
from llm_tiered.server import chat, connections
from llm_tiered.server.running import listen
from tests.server.conftest import start

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.server.conftest import Client, Running
    from tests.toys import Toys

BODY = (
    '{"model": "tiered/small", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
)
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}"
REQUEST = f"{HEAD}\r\n\r\n{BODY}".encode()


class Held:
    """A model's answer that waits for the test after its first word."""

    def __init__(self, toys: Toys, rest: str = " and whole") -> None:
        self.rest = rest
        self.stopped = threading.Event()
        self._released: Future[None] = Future()
        vars(toys.small)["script"] = self._script

    def _script(self, prompt: Any, response: Any) -> Any:
        try:
            yield "half"
            yield self._wait()
        finally:
            self.stopped.set()

    async def _wait(self) -> str:
        await asyncio.wrap_future(self._released)
        return self.rest

    def release(self) -> None:
        """Let the answer go on."""
        self._released.set_result(None)


@pytest.fixture
def held(toys: Toys) -> Held:
    """The small toy waits for the test."""
    return Held(toys)


@pytest.fixture
def own(toys: Toys) -> Iterator[Running]:
    """A server that a test may end."""
    running = start()
    yield running
    running.end()


def read(lines: Iterator[str]) -> str:
    """All that comes."""
    return "\n".join(lines)


def test_answers_end(own: Running, held: Held) -> None:
    """The first signal lets an answer end, and nothing new begins."""
    with httpx.stream("POST", f"{own.url}/v1/chat/completions", content=BODY) as response:
        lines = response.iter_lines()
        assert "half" in next(lines)
        own.server.handle_exit(signal.SIGTERM, None)
        own.server.servers[0].close()
        held.release()
        rest = read(lines)
    assert "and whole" in rest
    assert "[DONE]" in rest
    own.thread.join()


def test_second_signal(own: Running, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second signal ends answers at once, and says so."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with httpx.stream("POST", f"{own.url}/v1/chat/completions", content=BODY) as response:
        lines = response.iter_lines()
        assert "half" in next(lines)
        own.server.handle_exit(signal.SIGTERM, None)
        own.server.handle_exit(signal.SIGTERM, None)
        rest = read(lines)
    assert '"the server is stopping"' in rest
    assert "[DONE]" not in rest
    assert held.stopped.wait(10)
    own.thread.join()


def test_bound_on_answers(own: Running, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first signal, answers have only so long."""
    monkeypatch.setattr("llm_tiered.server.running.ANSWERS_WITHIN", 0.01)
    with httpx.stream("POST", f"{own.url}/v1/chat/completions", content=BODY) as response:
        lines = response.iter_lines()
        assert "half" in next(lines)
        own.server.handle_exit(signal.SIGTERM, None)
        assert '"the server is stopping"' in read(lines)
    own.thread.join()


def test_half_a_request(client: Client, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which half of a request or nothing comes is closed."""
    monkeypatch.setattr(connections, "HEADERS_WITHIN", 0.05)
    for data in (b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc"):
        with running.connect() as connection:
            connection.sendall(data)
            assert closed(connection)
    # The second request of a connection has no longer than the first.
    with running.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /he")
        assert closed(connection)


def closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True


def test_too_many_connections(
    client: Client, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a bound on connections."""
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 0)
    with running.connect() as connection:
        assert closed(connection)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((256, 4096), (1152, 4096)),
        ((256, resource.RLIM_INFINITY), (1152, resource.RLIM_INFINITY)),
        ((256, 512), (512, 512)),
        ((4096, 4096), None),
    ],
)
def test_open_files(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    """The process gets as many open files as its connections need, if it may have them."""
    wanted: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: wanted.append(new))
    connections.allow_connections()
    assert wanted == ([expected] if expected else [])


def test_everyone_is_told(own: Running, held: Held) -> None:
    """Of many more requests than there are places, each is answered or told to come again."""
    vars(own.endpoints.line)["_most"] = 2
    with ExitStack() as stack:
        clients = [stack.enter_context(own.connect()) for _ in range(300)]
        for each in clients:
            each.sendall(REQUEST)
        statuses = Counter(each.recv(12) for each in clients)
        held.release()
    assert statuses == {b"HTTP/1.1 200": 2, b"HTTP/1.1 429": 298}


def test_slow_reader(toys: Toys, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not take its answer is not waited for."""
    monkeypatch.setattr(chat, "PATIENCE_FOR_READER", 0.05)
    held = Held(toys, "x" * 20_000_000)
    with running.connect() as connection:
        connection.sendall(REQUEST)
        assert connection.recv(10)
        held.release()
        assert held.stopped.wait(10)


def test_port_in_use(running: Running) -> None:
    """A port that is in use is an error with another port."""
    with pytest.raises(RequestError, match="can't be used") as caught:
        listen("127.0.0.1", running.port)
    assert caught.value.fix == f"--port {running.port + 1}"


def test_unknown_host() -> None:
    """A host that is not this machine is an error."""
    with pytest.raises(RequestError, match="beyond loopback"):
        listen("host.example", 8484)
