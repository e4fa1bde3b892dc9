"""The worker thread: it owns MLX, and serves requests until it is told to end."""

from __future__ import annotations

import queue
import secrets
import threading
from collections import deque
from typing import TYPE_CHECKING

from ...errors import EngineError, RequestError
from .. import device
from .batch import Batch
from .residency import Residents
from .sequence import Running
from .solo import Solo

if TYPE_CHECKING:
    from .job import Job
    from .requests import GenerationRequest
    from .residency import Loaded


class Worker(threading.Thread):
    """A thread with a queue and models of its own.

    MLX ties its streams and its random state to a thread, so everything that loads, generates
    or lets go of a model happens here.
    """

    def __init__(self) -> None:
        super().__init__(name="mlx", daemon=True)
        self.residents = Residents()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._waiting: deque[Job] = deque()
        self._runners: list[Batch | Solo] = []

    def put(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.put(job)

    def close(self) -> None:
        """Make the thread end: what is under way fails, and its models are let go."""
        self._closing.set()
        self._jobs.put(None)

    def run(self) -> None:
        """Serve requests. The thread's own method: `start` calls it."""
        import mlx.core as mx

        # Every new thread starts from the same random state.
        mx.random.seed(secrets.randbits(64))
        with device.wired():
            while not self._closing.is_set():
                self._serve()
        self._put_down()

    def _serve(self) -> None:
        """Let everything that is under way go one step further; wait if there is nothing."""
        self._receive(wait=not (self._waiting or self._runners))
        self._admit()
        for runner in self._runners:
            self._step(runner)
        for runner in [runner for runner in self._runners if not len(runner)]:
            runner.close()
            self._runners.remove(runner)
        for position, runner in enumerate(self._runners):
            if isinstance(runner, Batch) and runner.is_down_to_one:
                self._runners[position] = Solo(runner.hand_over())

    def _receive(self, *, wait: bool) -> None:
        """Take in all jobs that have come; wait for one if there is nothing else to do."""
        try:
            while True:
                job = self._jobs.get(block=wait)
                wait = False
                if job is not None:
                    self._waiting.append(job)
        except queue.Empty:
            return

    def _admit(self) -> None:
        """Start the jobs there is memory for, in the order in which they came."""
        while self._waiting:
            job = self._waiting[0]
            if job.ticket.cancelled.is_set():
                job.ended()
            else:
                try:
                    if not self._fits(job.request):
                        return
                    self._begin(job)
                except Exception as error:
                    job.fail(error)
            self._waiting.popleft()

    def _step(self, runner: Batch | Solo) -> None:
        try:
            runner.step()
        except Exception as error:
            # Without this thread nobody would ever get an answer again.
            runner.fail(error)
            runner.close()

    def _busy(self) -> set[Loaded]:
        return {loaded for runner in self._runners for loaded in runner.models}

    def _fits(self, request: GenerationRequest) -> bool:
        """Whether there is room next to what runs; alone, a request always gets its try."""
        busy = self._busy()
        caches = sum(runner.kv_bytes for runner in self._runners)
        return not busy or self.residents.fits(request, busy, caches)

    def _begin(self, job: Job) -> None:
        request = job.request
        loaded = self.residents.get(request, self._busy())
        running = Running(job, loaded)
        if running.alone:
            self._runners.append(Solo(running, self._draft(running)))
            return
        batch = self._batch(loaded)
        if batch is None:
            self._runners.append(Solo(running))
        else:
            batch.add(running)

    def _batch(self, loaded: Loaded) -> Batch | None:
        """The batch to join on a model, made with the request that it serves; None if idle."""
        for position, runner in enumerate(self._runners):
            if runner.loaded is loaded and runner.is_open:
                if isinstance(runner, Batch):
                    return runner
                batch = Batch(loaded)
                self._runners[position] = batch
                batch.go_on(runner.hand_over())
                return batch
        return None

    def _draft(self, running: Running) -> Loaded | None:
        request, loaded = running.drafting, running.loaded
        if request is None:
            return None
        draft = self.residents.get(request, {*self._busy(), loaded}, beside=loaded)
        if draft.vocabulary != loaded.vocabulary:
            raise RequestError(
                f"{draft.name} can't guess ahead for {loaded.name}: its vocabulary is another one"
            )
        return draft

    def _put_down(self) -> None:
        """End what is under way, and let go of MLX."""
        closed = EngineError("the engine was closed before the answer was complete")
        for runner in self._runners:
            runner.fail(closed)
            runner.close()
        self._runners.clear()
        self._receive(wait=False)
        for job in self._waiting:
            job.fail(closed)
        self._waiting.clear()
        self.residents.clear()
        device.clear_streams()
