"""The process's one MLX worker: requests in, events out."""

from __future__ import annotations

import atexit
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import EngineError
from .. import device
from .job import Emit, Job
from .worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from .requests import GenerationRequest, Ticket

# How many requests may be under way, waiting ones included; whoever brings more waits.
IN_FLIGHT = 256

# Seconds that a process which ends waits for the worker to put MLX down.
GOODBYE = 5.0


class Engine:
    """Starts a worker at the first request, and ends it with the process."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(IN_FLIGHT)
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._ended = False

    def submit(
        self, request: GenerationRequest, emit: Emit, ticket: Ticket, *, wait: bool = True
    ) -> bool:
        """Queue a request. Where too many are under way it waits, or gives False without `wait`.

        `emit` gets its events, on the worker's thread, Done or Failed last. After
        `ticket.cancel()` nothing more is promised to come. Raises EngineError where the process
        ends, or was forked from one that has used MLX.
        """
        device.claim()
        if self._ended:
            raise EngineError("the process ends: no model answers any more")
        if not self._places.acquire(blocking=wait):
            return False
        with self._lock:
            if self._worker is None:
                self._worker = Worker()
                self._worker.start()
                atexit.register(self._close_at_exit)
            self._worker.put(Job(request, emit, ticket, self._places.release))
        return True

    def resident(self) -> dict[str, Path]:
        """The models in memory and their folders, least recently used first."""
        worker = self._worker
        return worker.residents.folders() if worker else {}

    def close(self) -> None:
        """End the worker: what is under way fails, and its models are let go."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
            worker.join(GOODBYE)

    def _close_at_exit(self) -> None:
        # Nobody would put down another worker, and MLX aborts a process that ends with one.
        self._ended = True
        # Whoever presses Ctrl-C now wants it sooner, and no traceback.
        with suppress(KeyboardInterrupt):
            self.close()


ENGINE = Engine()
