"""A server as the main work of a process: what it shows, and how others know of it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..config.settings import load_settings
from ..mlx.process.lease import Lease
from . import running
from .app import Endpoints
from .instances import SERVICE_VARIABLE, Instance, Kind, announced, log_file

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from .access import Access


# Bytes of the log file of a server in the background, after which it begins anew.
LONGEST_LOG = 10_000_000


def base_url(listener: socket.socket) -> str:
    """Return the base URL for clients of a server that listens there."""
    address, port = listener.getsockname()[:2]
    return f"http://[{address}]:{port}/v1" if ":" in address else f"http://{address}:{port}/v1"


def is_service() -> bool:
    """Return whether systemd or launchd has started this process with our unit."""
    return bool(os.environ.get(SERVICE_VARIABLE))


def serve(listener: socket.socket, access: Access, *, kind: Kind = "terminal") -> None:
    """Serve until a signal ends it."""
    log = _stderr_file()
    instance = Instance(
        base_url(listener),
        host=access.names[0],
        port=listener.getsockname()[1],
        kind=kind,
        keys=tuple(key.name for key in access.keys),
        log=str(log) if log else None,
    )
    with _log_on_stderr(log), announced(instance), Lease(_keep_warm) as lease:
        running.run(Endpoints(access, lease), listener)


def _stderr_file() -> Path | None:
    """The log file of servers, if stderr goes there: in the background, and under launchd."""
    with suppress(OSError, ValueError):
        if os.path.samestat(os.fstat(sys.stderr.fileno()), log_file().stat()):
            return log_file()
    return None


def _keep_warm() -> float:
    return load_settings().config.keep_warm.total_seconds()


class LogFileHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time
    """Writes to stderr, which is this file. When it has become long, it is put aside.

    Its name can't change, because what libraries write to stderr goes to the same file.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with suppress(OSError):
            if self._file.stat().st_size > LONGEST_LOG:
                shutil.copy(self._file, self._file.with_suffix(".log.old"))
                os.truncate(self._file, 0)
        super().emit(record)


@contextmanager
def _log_on_stderr(file: Path | None) -> Iterator[None]:
    """Show requests and warnings, but not why models failed: that may quote a prompt or an answer.

    The client gets it, and llm's log. `file` is where stderr goes, if that is known.
    """
    handler = LogFileHandler(file) if file else logging.StreamHandler()
    time = "%Y-%m-%d %H:%M:%S" if file else "%H:%M:%S"
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", time))
    handler.addFilter(lambda record: record.module != "exchange")
    logger, own = logging.getLogger("llm_tiered"), logging.getLogger("llm_tiered.server")
    logger.addHandler(handler)
    logger.propagate = False
    own.setLevel(logging.INFO)
    # It warns of each client that leaves in the middle of an answer.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
