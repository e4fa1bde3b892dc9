"""A lease on the engine: it stays as long as a server that needs it."""

from __future__ import annotations

import http.client
import importlib.util
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from .connection import SILENCE, EngineConnection
from .reader import READER

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .client import RunningEngine


def has_engines() -> bool:
    """Return whether engines run on this system."""
    return sys.platform != "win32" and importlib.util.find_spec("mlx") is not None


class Lease:
    """Keeps the engine by an open connection. `keep_warm` returns its seconds; 0 means no engine.

    The engine may end all the same. Then the next prompt starts another, and `renew` keeps that.
    Safe from any thread.
    """

    def __init__(self, keep_warm: Callable[[], float]) -> None:
        self._keep_warm = keep_warm
        self._lock = threading.Lock()
        self._connection: EngineConnection | None = None
        self._is_over = False

    def __enter__(self) -> Lease:
        """Let this process start engines. If none runs, start one, without waiting for it."""
        if self._is_wanted():
            READER.keep_channels(keep=True)
            threading.Thread(target=self._begin, name="lease", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the engine go."""
        self._is_over = True
        READER.keep_channels(keep=False)
        connection = self._connection
        if connection:
            connection.interrupt()
            connection.close()

    @property
    def is_held(self) -> bool:
        """Whether an engine runs that is kept. This takes microseconds."""
        stream = self._connection and self._connection.stream
        if not stream:
            return False
        try:
            stream.settimeout(0)
            # It says nothing more until it ends.
            while stream.recv(1024):
                pass
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def renew(self) -> None:
        """Keep the engine that runs, if there is one. This may wait for it."""
        from . import client

        if self._is_wanted():
            with suppress(client.NoAnswer), self._lock:
                if not self.is_held and (engine := client.look(SILENCE)):
                    self._hold(engine)

    def _hold(self, engine: RunningEngine) -> None:
        connection = EngineConnection(engine.place)
        try:
            connection.request("GET", "/hold")
            connection.getresponse().readline()
        except (OSError, http.client.HTTPException):
            connection.close()
            return
        if self._connection:
            self._connection.close()
        self._connection = connection
        if self._is_over:
            connection.interrupt()

    def _is_wanted(self) -> bool:
        """Return whether there should be an engine; if so, this process may start one."""
        wanted = self._keep_warm() > 0 and has_engines()
        if wanted:
            from . import start

            start.permit()
        return wanted

    def _begin(self) -> None:
        from . import choice

        if engine := choice.shared_engine(self._keep_warm()):
            with self._lock:
                self._hold(engine)
