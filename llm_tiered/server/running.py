"""The server's socket, its connections, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from ..errors import RequestError
from .connections import Connection, allow_connections
from .line import MOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .app import Endpoints

# Seconds for the next request on a connection, and for answers that are not complete when the
# server is asked to end.
KEEP_ALIVE = 30
ANSWERS_WITHIN = 30.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises RequestError."""
    family, address = resolve(host)
    try:
        return socket.create_server((address, port), family=family, backlog=128)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        raise RequestError(
            f"{host}:{port} can't be used: {_reason(error)}",
            fix=f"--port {port + 1}" if in_use else None,
        ) from error


def resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """Return the address of a host, and its family. Raises RequestError."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:
            family, *_, found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            raise RequestError(f"{host} can't be used: {_reason(error)}") from error
        return family, str(found[0])
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET, str(address)


def _reason(error: Exception) -> str:
    """An error's own words: Python adds the address to them."""
    number = getattr(error, "errno", None)
    # A name that is not found has a number of its own kind.
    name = getattr(error, "strerror", None) or str(error)
    return os.strerror(number) if number and number > 0 else name


def run(endpoints: Endpoints, listener: socket.socket) -> None:
    """Serve until a signal ends it."""
    allow_connections()
    asyncio.run(serve(Server(endpoints), listener))


async def serve(server: Server, listener: socket.socket) -> None:
    """Serve until the server is told to end."""
    # Downloads and the log wait in threads, and must not keep other requests waiting.
    pool = ThreadPoolExecutor(MOST + 8, thread_name_prefix="llm-tiered serve")
    asyncio.get_running_loop().set_default_executor(pool)
    await server.serve(sockets=[listener])


class Server(uvicorn.Server):
    """The server. The first signal lets answers end, the second does not."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        config = uvicorn.Config(
            endpoints,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            # The answers are ended before that.
            timeout_graceful_shutdown=round(ANSWERS_WITHIN) + 5,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers end, for a while."""
        timer = asyncio.get_running_loop().call_later(ANSWERS_WITHIN, self._endpoints.line.stop)
        await super().shutdown(sockets)
        timer.cancel()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Remember a signal; the second one ends the answers, the third one the process."""
        if self.should_exit:
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            self._loop.call_soon_threadsafe(self._end_now)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals, and do not raise them again once all has ended well."""
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in _SIGNALS}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def _end_now(self) -> None:
        self._endpoints.line.stop()
        # What the client does not take by then is lost.
        self._loop.call_later(0.5, self._abort)

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
