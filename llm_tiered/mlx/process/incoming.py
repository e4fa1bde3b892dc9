"""The answer to a request as it comes from the engine."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import EngineError
from ..engine.requests import Done, Failed, Waiting
from . import crashes, wire

if TYPE_CHECKING:
    import http.client
    import socket
    from collections.abc import Callable

    from ..engine.job import Emit
    from ..engine.requests import Event
    from .connection import EngineConnection
    from .place import EngineFiles

# Bytes that are read at once.
_CHUNK = 65_536


class IncomingAnswer:
    """Passes on the events of an answer, Done or Failed last, as far as they have come.

    `when_ended` is called at the end, with whether another engine may take the request: this one
    ended before it had begun with it. `stream` is the connection's socket, `instance` the engine,
    and `name` the model.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it takes to tell how an answer ended
        self,
        connection: EngineConnection,
        stream: socket.socket,
        response: http.client.HTTPResponse,
        place: EngineFiles,
        instance: str,
        name: str,
        emit: Emit,
        when_ended: Callable[[bool], object],
    ) -> None:
        self.stream = stream
        self.is_silent = False
        self._connection = connection
        self._place = place
        self._instance = instance
        self._name = name
        self._emit = emit
        self._when_ended = when_ended
        self._works = False
        self._is_complete = False
        self._patience = float(stream.gettimeout() or 0)
        self.deadline = time.monotonic() + self._patience
        stream.settimeout(0)
        # What came together with the headers.
        self._rest = response.peek()

    def begin(self) -> bool:
        """Pass on what came together with the headers, and return whether that was the end."""
        return self._take(b"")

    def read(self) -> bool:
        """Pass on what has come, and return whether that was the end."""
        try:
            data = self.stream.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self.deadline = time.monotonic() + self._patience
        return not data or self._take(data)

    def finish(self) -> None:
        """Close the connection, and say how the answer ended."""
        is_cancelled = self._connection.is_interrupted
        if self.is_silent:
            self._connection.kill()
        self._connection.end()
        if not (self._is_complete or is_cancelled) and self._works:
            self._fail()
            self._is_complete = True
        # Otherwise nobody waits for it any more, or another model's answer has ended the engine.
        self._when_ended(not self._is_complete)

    def _take(self, data: bytes) -> bool:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = wire.load_event(line)
            except ValueError:
                return True
            if event is not None and self._pass_on(event):
                return True
        return False

    def _pass_on(self, event: Event) -> bool:
        self._is_complete = isinstance(event, (Done, Failed))
        self._works = self._works or not isinstance(event, Waiting)
        try:
            self._emit(event)
        except Exception:
            # The receiver is gone, as a closed event loop is, and other answers are read on.
            self._is_complete = True
        return self._is_complete

    def _fail(self) -> None:
        crashes.record(self._place, self._instance, self._name)
        problem = "was killed, or crashed,"
        if self.is_silent:
            problem = f"did not react for {self._patience:.0f} seconds, and was killed"
        error = EngineError(
            f"the engine {problem} while it answered with {self._name}",
            fix=f"its log: {self._place.log}",
        )
        with suppress(RuntimeError):
            self._emit(Failed(error))
