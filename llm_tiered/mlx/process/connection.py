"""An HTTP connection to the engine over its unix socket."""

from __future__ import annotations

import http.client
import os
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .place import EngineFiles

# Seconds without a single byte after which the engine's process is taken for stopped. It writes
# one every few seconds while it works, and its worker is watched by the engine itself.
SILENCE = 30.0

# From <sys/un.h> of macOS: the level of the options of unix sockets, the credentials of the other
# process, and its id.
_MAC_LEVEL, _MAC_CREDENTIALS, _MAC_PID = 0, 1, 2


class EngineConnection(http.client.HTTPConnection):
    """A connection to the engine that listens in a place. Methods raise OSError."""

    sock: socket.socket | None

    def __init__(self, place: EngineFiles, timeout: float | None = None) -> None:
        super().__init__("localhost", timeout=SILENCE if timeout is None else timeout)
        self._path = str(place.socket)
        self.stream: socket.socket | None = None
        self._pid = 0
        self._response: http.client.HTTPResponse | None = None
        self.is_interrupted = False
        """Whether nobody wants the answer any more."""

    def connect(self) -> None:
        """Connect, if the engine is a process of this user."""
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.settimeout(self.timeout)
            stream.connect(self._path)
            self._pid, user = _peer(stream)
            if user != os.geteuid():
                raise PermissionError(f"{self._path} is somebody else's")
        except BaseException:
            stream.close()
            raise
        # The library forgets the socket while it reads an answer.
        self.sock = self.stream = stream
        if self.is_interrupted:
            self.interrupt()

    def answers_within(self, seconds: float) -> bool:
        """Return whether the engine begins to answer, or ends, within that time."""
        if self.stream is None:
            return True
        if self.timeout is not None:
            seconds = min(seconds, self.timeout)
        with selectors.DefaultSelector() as selector:
            selector.register(self.stream, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer. Raises http.client.HTTPException too."""
        self._response = super().getresponse()
        return self._response

    def end(self) -> None:
        """Close the connection and what is left of the answer, which may own the socket."""
        if self._response:
            self._response.close()
        self.close()

    def interrupt(self) -> None:
        """End what is being read, and whatever would be, from any thread."""
        self.is_interrupted = True
        if self.stream is not None:
            with suppress(OSError):
                self.stream.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """Kill the engine's process, which does not react any more."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the engine's process, also once the connection is closed."""
        # It is 0 if the process is in another container.
        if self._pid > 1:
            with suppress(OSError):
                os.kill(self._pid, number)


def _peer(stream: socket.socket) -> tuple[int, int]:
    """Return the ids of the process and the user that listen. Raises OSError."""
    if sys.platform == "darwin":
        credentials = stream.getsockopt(_MAC_LEVEL, _MAC_CREDENTIALS, 76)
        return stream.getsockopt(_MAC_LEVEL, _MAC_PID), struct.unpack_from("II", credentials)[1]
    size = struct.calcsize("3i")
    pid, user, _ = struct.unpack(
        "3i", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return pid, user
