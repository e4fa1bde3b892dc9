"""The worker thread: it owns MLX, and serves requests until it is closed."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ...errors import EngineError, RequestError
from .. import device
from .batch import Batch
from .job import Job, Unload
from .requests import Started
from .residency import ModelPool
from .sequence import RunningSequence
from .solo import Solo

if TYPE_CHECKING:
    from collections.abc import Callable

    from .loading import LoadedModel
    from .requests import GenerationRequest


class Worker(threading.Thread):
    """A thread with its own queue and models.

    MLX ties its streams and its random state to a thread, so everything that loads models,
    generates or unloads models happens here. Each runner, a Batch or a Solo, generates for one
    model. `on_step` is called before each step, with whether there is anything to do.
    """

    def __init__(self, on_step: Callable[[bool], None] = lambda works: None) -> None:
        super().__init__(name="mlx", daemon=True)
        self.pool = ModelPool()
        self._on_step = on_step
        self._jobs: queue.SimpleQueue[Job | Unload | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._waiting: deque[Job] = deque()
        self._runners: list[Batch | Solo] = []

    def put(self, job: Job | Unload) -> None:
        """Queue a job, or a wish to unload models."""
        self._jobs.put(job)

    def close(self) -> None:
        """Make the thread end: jobs in flight fail, and all models are unloaded."""
        self._closing.set()
        self._jobs.put(None)

    def run(self) -> None:
        """Serve jobs until the worker is closed. `start` calls this on the new thread."""
        import mlx.core as mx

        # Every new thread starts with the same random state.
        mx.random.seed(secrets.randbits(64))
        with device.wired():
            while not self._closing.is_set():
                self._advance()
        self._shut_down()

    def _advance(self) -> None:
        """Start the jobs that can start, and take every runner one step further.

        If there is nothing to do, wait for a job.
        """
        works = bool(self._waiting or self._runners)
        self._on_step(works)
        self._receive(wait=not works)
        self._admit()
        if not works:
            # Requests that come together are read together, and the first has taken a moment.
            self._receive(wait=False)
            self._admit()
        for runner in self._runners:
            self._step(runner)
        for runner in [runner for runner in self._runners if not len(runner)]:
            for model in runner.models:
                model.last_used = time.time()
            runner.close()
            self._runners.remove(runner)
        for position, runner in enumerate(self._runners):
            if isinstance(runner, Batch) and runner.has_one_left:
                self._runners[position] = Solo(runner.hand_over())

    def _receive(self, *, wait: bool) -> None:
        """Take every job out of the queue; `wait` waits for the first one."""
        try:
            while True:
                job = self._jobs.get(block=wait)
                wait = False
                if isinstance(job, Unload):
                    self._unload(job)
                elif job is not None:
                    self._waiting.append(job)
        except queue.Empty:
            return

    def _unload(self, unload: Unload) -> None:
        """Unload the models that are chosen of those that no job needs."""
        needed = {model.name for model in self._busy_models()}
        for job in self._waiting:
            requests = filter(None, (job.request, job.request.draft_request))
            needed |= {request.name for request in requests}
        idle = [model for model in self.pool.models() if model.name not in needed]
        try:
            chosen = set(unload.choose(idle))
            for name in chosen:
                self.pool.unload(name)
            if chosen:
                device.give_back_memory()
        except Exception as error:
            unload.unloaded.set_exception(error)
        else:
            unload.unloaded.set_result([model for model in idle if model.name in chosen])

    def _admit(self) -> None:
        """Start waiting jobs in order of arrival, as long as there is memory for them."""
        self.pool.look_again()
        while self._waiting:
            job = self._waiting[0]
            if job.cancelled:
                job.release()
            else:
                self._on_step(True)
                try:
                    if not self._fits(job.request):
                        self._report_waiting()
                        return
                    job.emit(Started())
                    self._start(job)
                except Exception as error:
                    job.fail(error)
            self._waiting.popleft()

    def _report_waiting(self) -> None:
        """Tell the jobs that wait for memory how many come before them."""
        running = sum(len(runner) for runner in self._runners)
        for ahead, job in enumerate(self._waiting, running):
            job.report_waiting(ahead)

    def _step(self, runner: Batch | Solo) -> None:
        try:
            runner.step()
        except Exception as error:
            # If this thread died, no request would ever be answered again.
            runner.fail(error)
            runner.close()

    def _busy_models(self) -> set[LoadedModel]:
        return {model for runner in self._runners for model in runner.models}

    def _fits(self, request: GenerationRequest) -> bool:
        """Return whether the request fits into memory next to those that are running.

        If none is running, it is always tried.
        """
        busy = self._busy_models()
        kv_bytes = sum(runner.kv_bytes for runner in self._runners)
        return not busy or self.pool.fits(request, busy, kv_bytes)

    def _start(self, job: Job) -> None:
        """Begin to serve a job: together with others on its model if possible, or else alone."""
        model = self.pool.get(job.request, self._busy_models(), on_load=job.emit)
        sequence = RunningSequence(job, model)
        if sequence.needs_solo:
            self._runners.append(Solo(sequence, self._draft_model(sequence)))
            return
        batch = self._batch_to_join(model)
        if batch is None:
            self._runners.append(Solo(sequence))
        else:
            batch.add(sequence)

    def _batch_to_join(self, model: LoadedModel) -> Batch | None:
        """Return the batch that runs on a model, or None if it is idle.

        A single running sequence becomes a batch.
        """
        for position, runner in enumerate(self._runners):
            if runner.model is model and runner.is_joinable:
                if isinstance(runner, Batch):
                    return runner
                batch = Batch(model)
                self._runners[position] = batch
                batch.resume(runner.hand_over())
                return batch
        return None

    def _draft_model(self, sequence: RunningSequence) -> LoadedModel | None:
        request, model = sequence.draft_request, sequence.model
        if request is None:
            return None
        draft = self.pool.get(request, {*self._busy_models(), model}, beside=model)
        if draft.vocabulary_size != model.vocabulary_size:
            raise RequestError(
                f"{draft.name} can't be the draft model of {model.name}: their vocabularies differ"
            )
        # Without it, the answer is the same.
        return draft if draft.trims_caches else None

    def _shut_down(self) -> None:
        """End all jobs, unload all models and release MLX."""
        closed = EngineError("the engine was closed before the answer was complete")
        for runner in self._runners:
            runner.fail(closed)
            runner.close()
        self._runners.clear()
        self._receive(wait=False)
        for job in self._waiting:
            job.fail(closed)
        self._waiting.clear()
        self.pool.clear()
        device.clear_streams()
