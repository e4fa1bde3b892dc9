"""The engines of a Dask cluster, as one engine that answers requests to local models."""

from __future__ import annotations

import sys
import threading
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, TieredError
from ..mlx.engine.requests import Failed, memory_name
from ..mlx.process import wire
from . import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..mlx.catalog import ModelSpec
    from ..mlx.engine.job import Emit
    from ..mlx.engine.requests import CancelToken, GenerationRequest
    from .roster import Roster
    from .worker import WorkerAnswer


@dataclass(frozen=True)
class _Task:
    spec: ModelSpec
    data: Any
    emit: Emit
    cancel_token: CancelToken


class ClusterEngine:
    """Sends requests to the workers of a cluster, and hands on their events.

    `models` are the local models. `when_lost` is called if the scheduler is gone, and `tell` gets
    a line for each worker that can't run a model.
    """

    # Each worker knows how much memory its models may use.
    budget = sys.maxsize

    def __init__(
        self,
        client: Any,
        roster: Roster,
        models: Iterable[ModelSpec],
        when_lost: Callable[[], object],
        tell: Callable[[str], object],
    ) -> None:
        self._client = client
        self._roster = roster
        self._models = {memory_name(spec.model_id, spec.adapter): spec for spec in models}
        self._when_lost = when_lost
        self._tell = tell
        self._lock = threading.Lock()
        # The workers that can't run a model, with their reasons.
        self._unfit: dict[str, dict[str, TieredError]] = {}

    @property
    def capacity(self) -> int:
        """The number of requests that the workers answer at the same time."""
        return self._roster.capacity

    def resident(self) -> dict[str, Path]:
        """Return all local models: each worker finds or downloads them itself."""
        return {name: spec.path or Path(spec.source) for name, spec in self._models.items()}

    def submit(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        *,
        wait: bool = True,
    ) -> bool:
        """Hand over a request, as `Engine.submit` does; Dask holds it until a worker is free."""
        spec = self._models[request.name]
        self._send(_Task(spec, wire.dump_request(request), emit, cancel_token))
        return True

    def _send(self, task: _Task) -> None:
        unfit = self._unfit.get(task.spec.model_id, {})
        fit = [address for address in self._roster.rows if address not in unfit]
        if unfit and not fit:
            task.emit(Failed(next(iter(unfit.values()))))
            return
        is_declared = self._roster.is_declared
        future = self._client.submit(
            worker.answer,
            self._roster.version,
            task.spec,
            task.data,
            leaves_pool=is_declared,
            key=f"llm-tiered-{uuid.uuid4().hex}",
            pure=False,
            resources={worker.RESOURCE: 1} if is_declared else None,
            # Dask spreads tasks better that may run anywhere.
            workers=fit if unfit or self._roster.has_refused else None,
            # If all of these end, another one says itself whether it is fit.
            allow_other_workers=bool(unfit or self._roster.has_refused),
        )
        task.cancel_token.on_cancel(future.cancel)
        future.add_done_callback(partial(self._take, task))

    def _take(self, task: _Task, future: Any) -> None:
        """Hand on what became of a task, on a thread of Dask's."""
        if task.cancel_token.cancelled:
            return
        if future.status == "error":
            error = future.exception()
            task.emit(Failed(EngineError(f"Dask: {type(error).__name__}: {error}")))
        elif future.status == "finished":
            self._hand_on(task, future.result())
        elif future.status == "cancelled":
            self._when_lost()
        else:
            # Its worker died with the answer, and another one begins anew.
            future.add_done_callback(partial(self._take, task))

    def _hand_on(self, task: _Task, outcome: WorkerAnswer) -> None:
        if outcome.unfit:
            self._leave_out(task.spec, outcome.worker, outcome.unfit)
            self._send(task)
            return
        for event in map(wire.load_event, outcome.events):
            if event:
                task.emit(event)

    def _leave_out(self, spec: ModelSpec, address: str, error: TieredError) -> None:
        with self._lock:
            known = self._unfit.setdefault(spec.model_id, {})
            is_new = address not in known
            # Another thread may be reading the present one.
            self._unfit[spec.model_id] = known | {address: error}
        if is_new:
            self._tell(f"{address} can't run {spec.model_id}: {error}")
