"""The way to one worker of a Dask cluster: requests go there, and answers come back."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .worker import WorkerEngine, WorkerRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..mlx.catalog import ModelSpec
    from ..mlx.engine.job import Emit
    from ..mlx.engine.requests import CancelToken
    from .worker import WorkerAnswer

# Seconds in which a worker must say at least that it has nothing to say: it may be loading a model.
SILENT_FOR = 60.0

# Seconds for which a run that ends waits for a worker to hear of it.
LEAVES_WITHIN = 2.0

# Requests that wait on a worker for each that it answers: if all of these end at the same time, it
# begins with as many others, and the driver has until their end to send the next ones.
AHEAD = 1

_numbers = itertools.count()


@dataclass(eq=False)
class ClusterTask:
    """A request, and who gets its events. `is_over` once the last of them is handed on."""

    spec: ModelSpec
    data: Any
    emit: Emit
    cancel_token: CancelToken
    is_over: bool = False


def room_for(rows: int) -> int:
    """Return how many requests a worker gets that answers this many at the same time."""
    return rows * (1 + AHEAD)


class Lane:
    """The way to a worker. All of it runs in the event loop of Dask's client.

    `take` gets each task with its answer, `lose` the lane itself once the worker is gone, and
    `tell` gets lines about downloads.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the worker, and three callbacks
        self,
        client: Any,
        address: str,
        rows: int,
        take: Callable[[Lane, ClusterTask, WorkerAnswer], object],
        lose: Callable[[Lane], object],
        tell: Callable[[str], object],
    ) -> None:
        self._client = client
        self.address = address
        self.rows = rows
        self._take, self._lose, self._tell = take, lose, tell
        self.tasks: dict[int, ClusterTask] = {}
        self._outbox: list[WorkerRequest] = []
        self._is_sending = False
        self._engine: Any = None
        self._session = ""
        self._running: set[asyncio.Task[Any]] = set()
        self._start(self._run())

    @property
    def room(self) -> int:
        """How many more requests it takes."""
        return room_for(self.rows) - len(self.tasks)

    def add(self, task: ClusterTask) -> None:
        """Add a request to what `flush` sends."""
        number = next(_numbers)
        self.tasks[number] = task
        self._outbox.append(WorkerRequest(number, task.spec, task.data))

    def flush(self) -> None:
        """Send what was added, once the worker is ready and has what was sent before."""
        if self._engine is not None and self._outbox and not self._is_sending:
            self._is_sending = True
            self._start(self._send())

    def cancel(self, task: ClusterTask) -> None:
        """Stop answering a task, if it is here."""
        numbers = [number for number, each in self.tasks.items() if each is task]
        for number in numbers:
            del self.tasks[number]
        self._outbox = [request for request in self._outbox if request.number not in numbers]
        if numbers and self._engine is not None:
            self._start(self._engine.cancel(numbers))

    def close(self) -> list[ClusterTask]:
        """Give the worker up, and return the tasks that it has not answered."""
        left, self.tasks = list(self.tasks.values()), {}
        for running in self._running:
            running.cancel()
        return left

    async def leave(self) -> None:
        """Tell the worker that no answers are needed any more."""
        numbers = list(self.tasks)
        self.close()
        if numbers and self._engine is not None:
            with suppress(Exception):  # it may be gone
                await asyncio.wait_for(_awaited(self._engine.cancel(numbers)), LEAVES_WITHIN)

    def _start(self, work: Any) -> None:
        running = asyncio.ensure_future(self._guarded(work))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception:  # whatever Dask raises where a worker is gone
            self._lose(self)

    async def _run(self) -> None:
        with self._client.as_current():
            actor = self._client.submit(
                WorkerEngine, self.rows, actor=True, workers=[self.address], pure=False
            )
            engine = await asyncio.wait_for(_awaited(actor), SILENT_FOR)
            self._session = await asyncio.wait_for(_awaited(engine.start()), SILENT_FOR)
            self._engine = engine
            self.flush()
            while True:
                call = self._engine.news(self._session)
                news = await asyncio.wait_for(_awaited(call), SILENT_FOR)
                for line in news.lines:
                    self._tell(line)
                self._hand_on(news.answers)

    async def _send(self) -> None:
        # What is added meanwhile goes together: a message costs as much as many requests.
        while self._outbox:
            requests, self._outbox = self._outbox, []
            await self._engine.submit(self._session, requests)
        self._is_sending = False

    def _hand_on(self, answers: Iterable[WorkerAnswer]) -> None:
        for answer in answers:
            task = self.tasks.pop(answer.number, None)
            if task:
                self._take(self, task, answer)


async def _awaited(call: Any) -> Any:
    """Await what Dask returns, which is not a coroutine."""
    return await call
