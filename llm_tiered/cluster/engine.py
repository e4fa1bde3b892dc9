"""The engines of a Dask cluster, as one engine that answers requests to local models."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, ModelUnavailable, RequestError, TieredError
from ..mlx.engine.requests import Failed, memory_name
from ..mlx.process import wire
from .lane import ClusterTask, Lane, room_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..mlx.catalog import ModelSpec
    from ..mlx.engine.job import Emit
    from ..mlx.engine.requests import CancelToken, GenerationRequest
    from .roster import Roster
    from .worker import WorkerAnswer


# Seconds for which the first task waits for others: to wake the loop for each of them, and to send
# it alone, would cost more than all the rest. The workers have others to begin with meanwhile.
_GATHERING = 0.005


class ClusterEngine:
    """Sends requests to the workers of a cluster, and hands on their events.

    `models` are the local models. `tell` gets a line for each worker that can't run a model.
    `is_here` is whether all workers are processes of this machine.
    """

    # Each worker knows how much memory its models may use.
    budget = sys.maxsize

    def __init__(
        self,
        client: Any,
        roster: Roster,
        models: Iterable[ModelSpec],
        tell: Callable[[str], object],
        *,
        is_here: bool = False,
    ) -> None:
        self.is_here = is_here
        self._client = client
        self._loop: asyncio.AbstractEventLoop = client.loop.asyncio_loop
        self._roster = roster
        self._models = {memory_name(spec.model_id, spec.adapter): spec for spec in models}
        self._resident = {
            name: spec.path or Path(spec.source) for name, spec in self._models.items()
        }
        self._tell = tell
        self._lanes: dict[str, Lane] = {}
        # Tasks for which no worker has room yet, the first one first.
        self._waiting: deque[ClusterTask] = deque()
        self._is_called = False
        # The workers that can't run a model, with their reasons.
        self._unfit: dict[str, dict[str, TieredError]] = {}

    @property
    def capacity(self) -> int:
        """The number of requests that the workers answer at the same time."""
        return self._roster.capacity

    @property
    def room(self) -> int:
        """The number of requests that keep the workers busy: a few wait there for their turn."""
        return sum(map(room_for, self._roster.rows.values()))

    def resident(self) -> dict[str, Path]:
        """Return all local models: each worker finds or downloads them itself."""
        return self._resident

    def check(self, name: str) -> None:
        """Raise ModelUnavailable if it is known that no worker can run the model."""
        if error := self._unfit_on_all(self._models[name].model_id):
            raise ModelUnavailable(error.message, fix=error.fix)

    def submit(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        *,
        wait: bool = True,
    ) -> bool:
        """Hand over a request, as `Engine.submit` does; it waits until a worker has room."""
        task = ClusterTask(
            self._models[request.name], wire.dump_request(request), emit, cancel_token
        )
        self._waiting.append(task)
        self._call()
        cancel_token.on_cancel(partial(self._cancel, task))
        return True

    def refresh(self) -> None:
        """Take the workers as they are now in the roster."""
        self._loop.call_soon_threadsafe(self._open_lanes)

    def close(self) -> None:
        """Tell the workers that no answers are needed any more."""

        async def leave() -> None:
            await asyncio.gather(*(lane.leave() for lane in self._lanes.values()))
            self._lanes.clear()

        asyncio.run_coroutine_threadsafe(leave(), self._loop).result()

    def _call(self) -> None:
        """Let the loop send what waits: all that comes until then goes together."""
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._loop.call_later, _GATHERING, self._dispatch)

    def _open_lanes(self) -> None:
        rows = self._roster.rows
        for address in self._lanes.keys() - rows.keys():
            self._lose(self._lanes[address])
        for address in rows.keys() - self._lanes.keys():
            self._lanes[address] = Lane(
                self._client, address, rows[address], self._take, self._lose, self._tell
            )
        self._dispatch()

    def _lose(self, lane: Lane) -> None:
        """Ask others what a worker has not answered; the roster says if it is there again."""
        if self._lanes.get(lane.address) is lane:
            del self._lanes[lane.address]
        self._waiting.extendleft(reversed(lane.close()))
        self._call()

    def _dispatch(self) -> None:
        """Hand the tasks that wait to the workers that have the most room."""
        self._is_called = False
        kept: list[ClusterTask] = []
        touched: set[Lane] = set()
        while self._waiting:
            task = self._waiting.popleft()
            if task.cancel_token.cancelled:
                continue
            model = task.spec.model_id
            if error := self._unfit_on_all(model):
                self._end(task, Failed(error))
                continue
            unfit = self._unfit.get(model, {})
            fit = [lane for lane in self._lanes.values() if lane.address not in unfit]
            lane = max(fit, key=lambda lane: lane.room, default=None)
            if lane is None or lane.room <= 0:
                kept.append(task)
                if len(kept) > len(self._models):
                    # The others would have to wait, too.
                    break
                continue
            lane.add(task)
            touched.add(lane)
        self._waiting.extendleft(reversed(kept))
        for lane in touched:
            lane.flush()

    def _take(self, lane: Lane, task: ClusterTask, answer: WorkerAnswer) -> None:
        """Hand on what became of a task."""
        if answer.unfit:
            self._leave_out(task.spec, lane.address, answer.unfit)
            self._waiting.appendleft(task)
        elif not task.cancel_token.cancelled:
            try:
                events = [event for line in answer.events if (event := wire.load_event(line))]
            except ValueError as error:
                events = [Failed(EngineError(f"{lane.address} has sent no answer: {error}"))]
            self._end(task, *events)
        if self._waiting:
            self._call()

    def _end(self, task: ClusterTask, *events: Any) -> None:
        task.is_over = True
        for event in events:
            task.emit(event)

    def _cancel(self, task: ClusterTask) -> None:
        if not task.is_over:
            self._loop.call_soon_threadsafe(self._cancel_there, task)

    def _cancel_there(self, task: ClusterTask) -> None:
        for lane in self._lanes.values():
            lane.cancel(task)

    def _unfit_on_all(self, model: str) -> TieredError | None:
        """Return an error if no worker can run the model."""
        unfit, workers = self._unfit.get(model), self._roster.rows
        if not unfit or not workers or workers.keys() - unfit.keys():
            return None
        error = next(iter(unfit.values()))
        fix = f"on the workers: {error.fix}" if error.fix else None
        # It says what every worker lacks, and the models here are not to blame.
        return RequestError(f"no worker can run {model}: {error.message}", fix=fix)

    def _leave_out(self, spec: ModelSpec, address: str, error: TieredError) -> None:
        known = self._unfit.get(spec.model_id, {})
        # Another thread may be reading the present one.
        self._unfit[spec.model_id] = known | {address: error}
        if address not in known:
            self._tell(f"{address} can't run {spec.model_id}: {error}")
