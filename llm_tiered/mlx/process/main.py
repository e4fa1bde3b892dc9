"""The engine's process: `python -m llm_tiered.mlx.process.main SECONDS PLACE…`.

It stays as many seconds if nobody asks. It listens in the first place, a path without its suffix,
that can hold a socket, and ends at once if another engine does so already.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from ..engine.engine import Engine
from .app import EngineApp
from .lifetime import Lifetime
from .place import EngineFiles
from .watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds between two looks at whether the socket is still there.
CHECK_INTERVAL = 20.0

# Open files: one for each caller, and those of models.
_FILES = 8192


class Occupied(Exception):
    """Another engine has the place."""


class Listener:
    """The engine's socket, and the lock that says whose it is. Raises Occupied or OSError."""

    def __init__(self, place: EngineFiles) -> None:
        self.place = place
        place.prepare()
        self._lock = _locked(place.lock)
        with suppress(FileNotFoundError):
            place.socket.unlink()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(str(place.socket))
            place.socket.chmod(0o600)
            self._made = _identity(place.socket)
        except OSError:
            self.socket.close()
            os.close(self._lock)
            raise

    def is_there(self) -> bool:
        """Return whether callers reach this socket."""
        return _identity(self.place.socket) == self._made

    def remove(self) -> None:
        """Make room for another engine."""
        if self.is_there():
            with suppress(OSError):
                self.place.socket.unlink()
        os.close(self._lock)


def _locked(path: Path) -> int:
    """Return the lock's file, which is locked until it is closed. Raises Occupied or OSError."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed it in between.
            if _identity(path) == _identity(file):
                return file
            os.close(file)
        except BlockingIOError:
            os.close(file)
            raise Occupied from None
        except BaseException:
            os.close(file)
            raise


def _identity(path: Path | int) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class EngineServer(uvicorn.Server):
    """Serves on the socket until it is time to leave. Its base class would wake up all the time."""

    def __init__(self, app: EngineApp, listener: Listener, lifetime: Lifetime) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._app = app
        self._listener = listener
        self._lifetime = lifetime

    async def main_loop(self) -> None:
        """Wait until it is time to leave, or nobody can reach the socket any more."""
        self._look()
        await self._lifetime.wait_until_left()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let another engine take over the place, and finish the answers."""
        self._listener.remove()
        for server in self.servers:
            server.close()
        await self._app.finish()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave at a signal."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._lifetime.leave)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        yield

    def _look(self) -> None:
        if not self._listener.is_there():
            self._lifetime.leave()
        asyncio.get_running_loop().call_later(CHECK_INTERVAL, self._look)


async def serve(listener: Listener, engine: Engine, keep_warm: float) -> None:
    """Let an engine serve on a socket until it is time to leave."""
    lifetime = Lifetime(keep_warm)
    app = EngineApp(engine, lifetime)
    await EngineServer(app, listener, lifetime).serve(sockets=[listener.socket])


def main(keep_warm: float, places: list[EngineFiles]) -> None:
    """Run the engine in the first place that can hold a socket. Raises OSError if none can."""
    os.umask(0o077)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    problem: OSError | None = None
    for place in places:
        try:
            listener = Listener(place)
        except Occupied:
            return
        except OSError as error:
            problem = problem or error
        else:
            asyncio.run(serve(listener, Engine(Watchdog().step), keep_warm))
            return
    raise problem or OSError("no place for the socket")


if __name__ == "__main__":
    main(
        float(sys.argv[1]),
        [EngineFiles(Path(stem).parent, Path(stem).name) for stem in sys.argv[2:]],
    )
    # The worker has ended, or hangs: nothing is left to do for the interpreter.
    os._exit(0)
