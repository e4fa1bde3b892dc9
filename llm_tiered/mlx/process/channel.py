"""The connection on which a process and its engine exchange requests and answers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ..engine.requests import Done, Failed
from . import frames
from .connection import EngineConnection

if TYPE_CHECKING:
    import socket

    from ..engine.requests import Event, GenerationRequest
    from .incoming import IncomingAnswer
    from .place import EngineFiles

# Bytes that are read at once.
_CHUNK = 65_536

# The body of the request that opens a channel has no end: it holds all requests to the engine.
_OPENING = (
    "POST /generate HTTP/1.0\r\nHost: localhost\r\nX-Engine: {}\r\nContent-Length: {}\r\n\r\n"
)
_ENDLESS = 2**62


class Refused(Exception):
    """The engine takes no requests, or has ended."""


class Channel:
    """All requests of this process that one engine has, and their answers.

    The reader's thread passes on the answers; other threads add and cancel them. With a connection
    for each answer, each token of each of them would have to be written and read by itself.
    """

    def __init__(self, place: EngineFiles, instance: str) -> None:
        self.instance = instance
        self.is_silent = False
        self.deadline = 0.0
        self.connection = EngineConnection(place)
        # Reentrant: Python's garbage collector can close an abandoned answer, and so cancel it, in
        # the middle of any of this.
        self._lock = threading.RLock()
        self._is_sending = False
        self._answers: dict[int, IncomingAnswer] = {}
        self._last = 0
        self._is_open = True
        self._unsent = bytearray()
        self._rest = b""

    @property
    def stream(self) -> socket.socket:
        """The connection's socket. Raises OSError before it is connected."""
        stream = self.connection.stream
        if stream is None:
            raise OSError("not connected")
        return stream

    @property
    def has_unsent(self) -> bool:
        """Whether the engine has not taken all of the requests yet."""
        return bool(self._unsent)

    def open(self, answer: IncomingAnswer, request: GenerationRequest, keep_warm: float) -> int:
        """Connect, hand over a request, and return the number of its answer. This blocks.

        Raises Refused, TimeoutError, or what `frames.question` raises.
        """
        line = frames.question(1, request, keep_warm)
        self._last, self._answers = 1, {1: answer}
        reply = b""
        try:
            self.connection.connect()
            opening = _OPENING.format(self.instance, _ENDLESS).encode()
            self.stream.sendall(opening + line)
            while b"\r\n\r\n" not in reply:
                if not (piece := self.stream.recv(_CHUNK)):
                    raise Refused
                reply += piece
        except TimeoutError:
            raise
        except OSError:
            raise Refused from None
        head, _, self._rest = reply.partition(b"\r\n\r\n")
        if head.split(None, 2)[1] != b"200":
            raise Refused
        self._patience = float(self.stream.gettimeout() or 0)
        self.deadline = time.monotonic() + self._patience
        self.stream.settimeout(0)
        return 1

    def join(
        self, answer: IncomingAnswer, request: GenerationRequest, keep_warm: float
    ) -> int | None:
        """Hand over another request, and return the number of its answer, without blocking.

        None if the channel is closed already. Raises what `frames.question` raises.
        """
        with self._lock:
            if not self._is_open:
                return None
            line = frames.question(self._last + 1, request, keep_warm)
            if not self._answers:
                # While there is nothing to say, the engine is silent.
                self.deadline = time.monotonic() + self._patience
            self._last += 1
            self._answers[self._last] = answer
            self._send(line)
            return self._last

    def cancel(self, number: int) -> bool:
        """Drop an answer, and return whether it was expected."""
        answer = self._remove(number)
        if answer is None:
            return False
        with self._lock:
            self._send(frames.nothing(number))
        answer.drop()
        return True

    @property
    def is_idle(self) -> bool:
        """Whether no answer is expected, so that the engine may be silent."""
        return not self._answers

    def close_if_idle(self) -> bool:
        """Take no more requests if no answer is expected; return whether that is so."""
        with self._lock:
            self._is_open = self._is_open and bool(self._answers)
            return not self._is_open

    def begin(self) -> bool:
        """Pass on what came together with the headers; return whether nothing more can come."""
        return self._take(b"")

    def read(self) -> bool:
        """Pass on what has come, and return whether nothing more can come."""
        try:
            data = self.stream.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self.deadline = time.monotonic() + self._patience
        return not data or self._take(data)

    def send_rest(self) -> None:
        """Send what the engine had no room for before."""
        with self._lock:
            self._send(b"")

    def finish(self) -> None:
        """Close the connection, and break off the answers that are not complete."""
        problem = "was killed, or crashed,"
        if self.is_silent:
            problem = f"did not react for {self._patience:.0f} seconds, and was killed"
            self.connection.kill()
        with self._lock:
            self._is_open = False
            answers, self._answers = list(self._answers.values()), {}
        self.connection.end()
        for answer in answers:
            answer.break_off(problem)

    def abandon(self) -> None:
        """Leave the connection to the parent of this process, which was forked from it."""
        self._lock = threading.RLock()
        self._is_open = False
        self._answers = {}
        self.connection.end()

    def _send(self, data: bytes) -> None:
        self._unsent += data
        if self._is_sending:
            return
        self._is_sending = True
        try:
            while self._unsent:
                del self._unsent[: self.stream.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            # The end is read, too.
            self._unsent.clear()
        finally:
            self._is_sending = False

    def _take(self, data: bytes) -> bool:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                number, event = frames.read_answer(line)
            except ValueError:
                return True
            if answer := self._answers.get(number):
                self._pass_on(number, answer, event)
        return False

    def _pass_on(self, number: int, answer: IncomingAnswer, event: Event | None) -> None:
        """Hand an answer its next event. Another thread may cancel it at any moment."""
        if event is None:
            if self._remove(number):
                answer.drop()
        elif isinstance(event, (Done, Failed)):
            if self._remove(number):
                answer.take(event)
                answer.end()
        elif not answer.take(event) and self._remove(number):
            with self._lock:
                self._send(frames.nothing(number))
            answer.end()

    def _remove(self, number: int) -> IncomingAnswer | None:
        with self._lock:
            return self._answers.pop(number, None)
