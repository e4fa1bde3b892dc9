"""One worker thread that owns MLX: requests in, events out.

MLX ties its streams and its random state to a thread, so everything that loads, generates or
lets go of a model happens on this one.
"""

from __future__ import annotations

import atexit
import queue
import secrets
import threading
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ..errors import EngineError, TieredError
from . import device
from .batch import Batch
from .requests import Event, Failed, GenerationRequest, Ticket
from .residency import Residents
from .running import Running
from .solo import Solo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .residency import Loaded

# How many requests may be under way, waiting ones included; whoever brings more waits.
IN_FLIGHT = 256

# Seconds that a process which ends waits for the worker to put MLX down.
GOODBYE = 5.0

Emit: TypeAlias = "Callable[[Event], None]"
Job: TypeAlias = "tuple[GenerationRequest, Emit, Ticket]"


class Engine:
    """The worker and its queue."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._places = threading.BoundedSemaphore(IN_FLIGHT)
        self._start = threading.Lock()
        self._worker: threading.Thread | None = None
        self._closing = threading.Event()
        self._residents = Residents()
        self._waiting: deque[Job] = deque()
        self._runners: list[Batch | Solo] = []

    def submit(
        self, request: GenerationRequest, emit: Emit, ticket: Ticket, *, wait: bool = True
    ) -> bool:
        """Queue a request. Where too many are under way it waits, or gives False without `wait`.

        `emit` gets its events, on the worker's thread, Done or Failed last. After
        `ticket.cancel()` nothing more is promised to come.
        """
        if not self._places.acquire(blocking=wait):
            return False
        with self._start:
            if self._worker is None:
                self._closing.clear()
                self._worker = threading.Thread(target=self._work, name="mlx", daemon=True)
                self._worker.start()
                atexit.register(self._close_at_exit)
        self._jobs.put((request, _guarded(emit, ticket), ticket))
        return True

    def resident(self) -> dict[str, Path]:
        """The models in memory and their folders, least recently used first."""
        return self._residents.folders()

    def close(self) -> None:
        """End the worker: what it generates is cancelled, and its models are let go."""
        with self._start:
            worker, self._worker = self._worker, None
        if worker is None:
            return
        self._closing.set()
        self._jobs.put(None)
        worker.join(GOODBYE)

    def _close_at_exit(self) -> None:
        # Whoever presses Ctrl-C now wants it sooner, and no traceback.
        with suppress(KeyboardInterrupt):
            self.close()

    def _work(self) -> None:
        import mlx.core as mx

        # Every new thread starts from the same random state.
        mx.random.seed(secrets.randbits(64))
        while not self._closing.is_set():
            self._receive(wait=not (self._waiting or self._runners))
            self._admit()
            for runner in self._runners:
                runner.step()
            for runner in [runner for runner in self._runners if not len(runner)]:
                runner.close()
                self._runners.remove(runner)
        self._put_down()

    def _receive(self, *, wait: bool) -> None:
        """Take in all requests that have come; wait for one if there is nothing else to do."""
        try:
            while True:
                job = self._jobs.get(block=wait)
                wait = False
                if job is not None:
                    self._waiting.append(job)
        except queue.Empty:
            return

    def _admit(self) -> None:
        """Start the requests there is memory for, in the order in which they came."""
        while self._waiting:
            request, emit, ticket = self._waiting[0]
            if not ticket.cancelled.is_set():
                try:
                    if not self._fits(request):
                        return
                    self._begin(request, emit, ticket)
                except Exception as error:
                    if not isinstance(error, TieredError):
                        kind = type(error).__name__
                        error = EngineError(f"{request.model}: {kind}: {error}")
                    emit(Failed(error))
                    self._places.release()
            else:
                self._places.release()
            self._waiting.popleft()

    def _fits(self, request: GenerationRequest) -> bool:
        """Whether there is room next to what runs; alone, a request always gets its try."""
        busy = {runner.loaded for runner in self._runners}
        if not busy:
            return True
        return self._residents.fits(request, busy)

    def _begin(self, request: GenerationRequest, emit: Emit, ticket: Ticket) -> None:
        busy = {runner.loaded for runner in self._runners}
        loaded = self._residents.get(request, busy)
        running = Running(request, emit, ticket, loaded, self._places.release)
        if request.alone:
            self._runners.append(Solo(running, self._draft(request, busy | {loaded})))
            return
        for runner in self._runners:
            if isinstance(runner, Batch) and runner.loaded is loaded:
                runner.add(running)
                return
        batch = Batch(loaded)
        batch.add(running)
        self._runners.append(batch)

    def _draft(self, request: GenerationRequest, busy: set[Loaded]) -> Loaded | None:
        if request.draft is None:
            return None
        model, folder = request.draft
        return self._residents.get(replace(request, model=model, folder=folder), busy)

    def _put_down(self) -> None:
        """End what is under way, and let go of MLX."""
        closed = EngineError("the engine was closed before the answer was complete")
        for runner in self._runners:
            runner.fail(closed)
            runner.close()
        self._runners.clear()
        self._receive(wait=False)
        for _, emit, _ in self._waiting:
            emit(Failed(closed))
            self._places.release()
        self._waiting.clear()
        self._residents.clear()
        device.clear_streams()


def _guarded(emit: Emit, ticket: Ticket) -> Emit:
    """The same, but a receiver that fails, such as a closed event loop, only loses its request."""

    def guarded(event: Event) -> None:
        try:
            emit(event)
        except Exception:
            ticket.cancel()

    return guarded


ENGINE = Engine()
