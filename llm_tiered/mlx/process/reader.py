"""One thread that reads the answers to all requests of this process, however many there are."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from ...forks import after_fork

if TYPE_CHECKING:
    from .channel import Channel

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Reader:
    """Reads answers as soon as some of them has come, on a thread that ends with the last one.

    A thread for each answer would be woken, one after the other, for every token.
    """

    def __init__(self) -> None:
        # Held by whoever opens a channel: one is enough for all who ask the same engine.
        self.opening = threading.Lock()
        self.latest: Channel | None = None
        # Whether channels stay open without answers, as those of a server should.
        self._keeps = False
        # Reentrant, as a channel's is.
        self._lock = threading.RLock()
        self._channels: set[Channel] = set()
        self._new: deque[Channel] = deque()
        # Wakes the thread, while there is one.
        self._waker: socket.socket | None = None

    def add(self, channel: Channel) -> None:
        """Read the answers of a channel from now on, up to the last one."""
        with self._lock:
            if self._waker is None:
                wakes, waker = socket.socketpair()
                waker.setblocking(False)
                # It waits for the lock. A system may have no thread left.
                threading.Thread(
                    target=self._run, args=(wakes,), name="answers", daemon=True
                ).start()
                self._waker = waker
            self.latest = channel
            self._new.append(channel)
            self.wake()

    def keep_channels(self, *, keep: bool) -> None:
        """Keep channels open while no answer is expected, or do so no longer."""
        self._keeps = keep
        self.wake()

    def wake(self) -> None:
        """Let the thread look whether a channel has something to send, or nothing to wait for."""
        # Without room for one more, the thread has enough to wake up for.
        with self._lock, suppress(BlockingIOError):
            if self._waker is not None:
                self._waker.send(b"\0")

    def abandon(self) -> None:
        """Begin anew in a child process: the thread is the parent's, and so are the connections."""
        channels = [*self._channels, *self._new]
        self.__init__()  # type: ignore[misc]  # nothing of the parent's state holds here
        for channel in channels:
            channel.abandon()

    def _run(self, wakes: socket.socket) -> None:
        with wakes, selectors.DefaultSelector() as selector:
            selector.register(wakes, _READ)
            while self._goes_on():
                self._take_new(selector)
                for key, events in selector.select(self._patience()):
                    if key.data is None:
                        wakes.recv(4096)
                    else:
                        self._advance(selector, key.data, events)
                now = time.monotonic()
                for channel in list(self._channels):
                    channel.is_silent = channel.deadline < now and not channel.is_idle
                    if channel.is_silent or self._is_done_with(channel):
                        self._drop(selector, channel)
                    else:
                        wanted = _READ | (_WRITE if channel.has_unsent else 0)
                        if selector.get_key(channel.stream).events != wanted:
                            selector.modify(channel.stream, wanted, channel)

    def _goes_on(self) -> bool:
        with self._lock:
            if self._channels or self._new:
                return True
            if self._waker is not None:
                self._waker.close()
                self._waker = None
            return False

    def _take_new(self, selector: selectors.BaseSelector) -> None:
        while self._new:
            channel = self._new.popleft()
            self._channels.add(channel)
            selector.register(channel.stream, _READ, channel)
            if channel.begin() or self._is_done_with(channel):
                self._drop(selector, channel)

    def _advance(self, selector: selectors.BaseSelector, channel: Channel, events: int) -> None:
        if events & _WRITE:
            channel.send_rest()
        if events & _READ and channel.read():
            self._drop(selector, channel)

    def _is_done_with(self, channel: Channel) -> bool:
        if self._keeps and channel is self.latest:
            return False
        return channel.close_if_idle()

    def _patience(self) -> float | None:
        """Return the seconds until one of the channels has been silent for too long."""
        deadlines = [each.deadline for each in self._channels if not each.is_idle]
        if self._channels and not deadlines:
            return None
        return max(min(deadlines, default=0.0) - time.monotonic(), 0.0)

    def _drop(self, selector: selectors.BaseSelector, channel: Channel) -> None:
        self._channels.remove(channel)
        with self._lock:
            if self.latest is channel:
                self.latest = None
        selector.unregister(channel.stream)
        channel.finish()


READER = Reader()

after_fork(READER.abandon)
