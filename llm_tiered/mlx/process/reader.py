"""One thread that reads the answers to all requests of this process, however many there are."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .incoming import IncomingAnswer


class Reader:
    """Reads answers as soon as some of them has come, on a thread that ends with the last one.

    A thread for each answer would be woken, one after the other, for every token.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: set[IncomingAnswer] = set()
        self._new: deque[IncomingAnswer] = deque()
        # Wakes the thread, while there is one.
        self._waker: socket.socket | None = None

    def add(self, answer: IncomingAnswer) -> None:
        """Read an answer from now on, up to its end."""
        with self._lock:
            self._new.append(answer)
            if self._waker is not None:
                self._waker.send(b"\0")
                return
            wakes, self._waker = socket.socketpair()
        threading.Thread(target=self._run, args=(wakes,), name="answers", daemon=True).start()

    def _run(self, wakes: socket.socket) -> None:
        with wakes, selectors.DefaultSelector() as selector:
            selector.register(wakes, selectors.EVENT_READ)
            while self._goes_on():
                self._take_new(selector)
                for key, _ in selector.select(self._patience()):
                    if key.data is None:
                        wakes.recv(4096)
                    elif key.data.read():
                        self._drop(selector, key.data)
                now = time.monotonic()
                for answer in [each for each in self._answers if each.deadline < now]:
                    answer.is_silent = True
                    self._drop(selector, answer)

    def _goes_on(self) -> bool:
        with self._lock:
            if self._answers or self._new:
                return True
            if self._waker is not None:
                self._waker.close()
                self._waker = None
            return False

    def _take_new(self, selector: selectors.BaseSelector) -> None:
        while self._new:
            answer = self._new.popleft()
            self._answers.add(answer)
            selector.register(answer.stream, selectors.EVENT_READ, answer)
            if answer.begin():
                self._drop(selector, answer)

    def _patience(self) -> float:
        """Return the seconds until one of the answers has been silent for too long."""
        earliest = min((each.deadline for each in self._answers), default=0.0)
        return max(earliest - time.monotonic(), 0.0)

    def _drop(self, selector: selectors.BaseSelector, answer: IncomingAnswer) -> None:
        self._answers.remove(answer)
        selector.unregister(answer.stream)
        answer.finish()


READER = Reader()


def _after_fork() -> None:
    # The thread is the parent's, and so are the sockets.
    READER.__init__()  # type: ignore[misc]  # nothing of the parent's state holds here


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
