"""A server as the main work of a process: what it shows, and how others know of it."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..config.settings import load_settings
from ..mlx.process.lease import Lease
from . import running
from .app import Endpoints
from .instances import SERVICE_VARIABLE, Instance, Kind, announced

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from .access import Access


def base_url(listener: socket.socket) -> str:
    """Return the base URL for clients of a server that listens there."""
    address, port = listener.getsockname()[:2]
    return f"http://[{address}]:{port}/v1" if ":" in address else f"http://{address}:{port}/v1"


def is_service() -> bool:
    """Return whether systemd or launchd has started this process with our unit."""
    return bool(os.environ.get(SERVICE_VARIABLE))


def serve(listener: socket.socket, access: Access, *, log: str | None = None) -> None:
    """Serve until a signal ends it. `log` is the file of a server in the background."""
    host, port = access.names[0], listener.getsockname()[1]
    kind: Kind = "service" if is_service() else "terminal"
    instance = Instance(
        base_url(listener),
        host,
        port,
        kind="background" if log else kind,
        keys=tuple(key.name for key in access.keys),
        log=log,
    )
    with _log_on_stderr(with_date=log is not None), announced(instance), Lease(_keep_warm) as lease:
        running.run(Endpoints(access, lease), listener)


def _keep_warm() -> float:
    return load_settings().config.keep_warm.total_seconds()


@contextmanager
def _log_on_stderr(*, with_date: bool) -> Iterator[None]:
    """Show requests and warnings, but not why models failed: that may quote a prompt or an answer.

    The client gets it, and llm's log.
    """
    handler = logging.StreamHandler()
    time = "%Y-%m-%d %H:%M:%S" if with_date else "%H:%M:%S"
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
