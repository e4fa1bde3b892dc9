"""The process's single MLX worker: requests in, events out."""

from __future__ import annotations

import atexit
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import EngineError
from .. import device
from .job import Job, Unload

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from .job import Choose, Emit
    from .requests import CancelToken, GenerationRequest
    from .residency import ResidentModel
    from .worker import Worker

# Requests that may be in flight, including those that wait in the queue. Submitting more blocks.
MAX_IN_FLIGHT = 256

# Seconds to wait for the worker to release MLX, when the engine is closed or the process exits.
SHUTDOWN_TIMEOUT = 5.0


class Engine:
    """Starts a worker with the first request, and stops it when the process exits.

    The worker calls `on_step` before each step, with whether there is anything to do.
    """

    def __init__(self, on_step: Callable[[bool], None] = lambda works: None) -> None:
        self._on_step = on_step
        # The memory that models may use by default: the device says it.
        self.budget = None
        self._slots = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._exiting = False

    def submit(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        *,
        wait: bool = True,
    ) -> bool:
        """Queue a request, and return whether it was queued.

        If too many requests are in flight, block until one has ended, or return False without
        `wait`. `emit` receives the events on the worker's thread, Done or Failed last; after
        `cancel_token.cancel()` no further events are guaranteed. Raises EngineError if the process
        is exiting or was forked from one that has used MLX.
        """
        device.claim()
        if self._exiting:
            raise EngineError("the process is exiting: no more answers can be generated")
        if not self._slots.acquire(blocking=wait):
            return False
        with self._lock:
            if self._worker is None:
                # It is not imported by a process whose prompts another one answers.
                from .worker import Worker

                self._worker = Worker(self._on_step)
                self._worker.start()
                atexit.register(self._close_at_exit)
            self._worker.put(Job(request, emit, cancel_token, self._slots.release))
        return True

    def resident(self) -> dict[str, Path]:
        """Return the models in memory with their folders, the least recently used first."""
        return {model.name: model.folder for model in self.models()}

    def models(self) -> list[ResidentModel]:
        """Return the models in memory, the least recently used first."""
        worker = self._worker
        return worker.pool.models() if worker else []

    def unload(self, choose: Choose) -> Future[list[ResidentModel]]:
        """Unload those models that no job needs and that `choose` names, and return them.

        `choose` gets those that could go, the least recently used first, on the worker's thread.
        """
        unload = Unload(choose)
        with self._lock:
            if self._worker:
                self._worker.put(unload)
            else:
                unload.unloaded.set_result([])
        return unload.unloaded

    def close(self) -> None:
        """Stop the worker: requests in flight fail, and all models are unloaded."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
            worker.join(SHUTDOWN_TIMEOUT)

    def _close_at_exit(self) -> None:
        # Nothing would stop another worker, and MLX aborts a process that exits with one running.
        self._exiting = True
        # Ctrl-C at this point should end the process sooner, without a traceback.
        with suppress(KeyboardInterrupt):
            self.close()


ENGINE = Engine()
