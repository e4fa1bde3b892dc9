"""A connection of the server, with bounds on how long it may stay idle."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

# Seconds for the headers of a request.
HEADERS_WITHIN = 10.0

# Connections, whether anything is asked on them or not: most of those who are too many are to be
# told so. What remains of the open files that a process may have is for models and the log.
MOST_CONNECTIONS = 1024
_OTHER_FILES = 128

ABORT = "abort"
"""Where the state of a request has the function that ends its connection at once."""


def allow_connections() -> None:
    """Let the process have as many open files as that takes: a Mac allows only 256 by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    # It stays as it is where that is not allowed.
    with suppress(OSError, ValueError):
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _most_connections() -> int:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, allowed - _OTHER_FILES)


class Connection(H11Protocol):
    """A connection that is closed if nothing, or only half of a request's headers, comes."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            transport.abort()
            return
        state: dict[str, Any] = {ABORT: transport.abort}
        self.app_state = state
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read, and wait for the rest of the headers."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._wait_no_more()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADERS_WITHIN, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
