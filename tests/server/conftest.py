"""A real server in a thread, which answers with toys."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from llm.plugins import pm

from llm_tiered.server.access import Access
from llm_tiered.server.app import Endpoints
from llm_tiered.server.running import Server, listen, serve
from tests import gemini
from tests.toys import Toys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_tiered.mlx.process.lease import Lease

KEY = "a secret of nobody"


@dataclass
class Running:
    """A server that runs in a thread of its own."""

    server: Server
    endpoints: Endpoints
    port: int
    thread: threading.Thread

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def end(self) -> None:
        """End it, and wait for that."""
        self.server.should_exit = True
        self.thread.join()


def start(
    access: Access | None = None, host: str = "127.0.0.1", lease: Lease | None = None
) -> Running:
    """Start a server on a free port."""
    listener = listen(host, 0)
    endpoints = Endpoints(access or Access(), lease)
    server = Server(endpoints)
    thread = threading.Thread(target=lambda: asyncio.run(serve(server, listener)))
    thread.start()
    return Running(server, endpoints, listener.getsockname()[1], thread)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A server for the tests of a module, which follows the config of each."""
    running = start()
    yield running
    running.end()


@pytest.fixture
def toys(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toys]:
    """Two toys and Gemini as tiers. Time passes as always: the server's loop needs it."""
    plugin = Toys(config_file)
    monkeypatch.setenv("LLM_GEMINI_KEY", gemini.KEY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("llm_tiered.router.attempts.RETRY_DELAYS", ())
    pm.register(plugin, name="toys")
    yield plugin
    pm.unregister(plugin)


@dataclass
class Client:
    """Asks a server, as a program that knows nothing but HTTP does."""

    http: httpx.Client

    def respond(self, given: Any = "Hello", **body: Any) -> httpx.Response:
        """The response of the Responses API to an input, by default from the small tier."""
        whole = {"model": "tiered/small", "input": given} | body
        return self.http.post("/v1/responses", json=whole)

    def post(self, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """The response to a request; by default it is one for the small tier."""
        whole = {"model": "tiered/small", "messages": [{"role": "user", "content": "Hello"}]} | body
        return self.http.post("/v1/chat/completions", json=whole, headers=headers)

    def chat(self, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        """The choice of an answer."""
        response = self.post(headers, **body)
        assert response.status_code == 200, response.text
        choice: dict[str, Any] = response.json()["choices"][0]
        return choice

    def error(self, headers: dict[str, str] | None = None, **body: Any) -> tuple[int, str, str]:
        """The status, code and message of an error."""
        response = self.post(headers, **body)
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return response.status_code, error["code"], error["message"]

    def events(self, **body: Any) -> list[Any]:
        """The events of a stream, read; the mark at its end as it is."""
        response = self.post(stream=True, **body)
        assert response.status_code == 200, response.text
        data = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in data]


@pytest.fixture
def client(running: Running, toys: Toys) -> Iterator[Client]:
    """A client of the server, which has toys for its local tiers."""
    with httpx.Client(base_url=running.url, trust_env=False, timeout=20) as http:
        yield Client(http)


@pytest.fixture
def logged(toys: Toys, logs: Path, empty_log: Path) -> Path:
    """Log what is asked. The path of the log."""
    toys.configure(log_api=True)
    shutil.copy(empty_log, logs)
    return logs
