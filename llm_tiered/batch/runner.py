"""A run over the rows of a batch: concurrent requests, answers in order, interruption."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import TieredError
from .asking import RowAsker, reason
from .ctrl_c import on_ctrl_c
from .feed import feed
from .output import RowOrder
from .rows import BadRow, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..cluster.engine import ClusterEngine
    from .journal import Journal
    from .limits import AsyncModel
    from .output import Output
    from .progress import Progress

# The most rows that are read but not written yet: a slow row holds up at most this many others.
AHEAD = 1000

# With a cluster it is this many times what keeps the workers busy, if that is more.
_TIMES_THE_WORKERS = 4


def rows_ahead(cluster: ClusterEngine | None) -> int:
    """Return how many rows may be read that are not written yet."""
    return max(AHEAD, _TIMES_THE_WORKERS * cluster.room) if cluster else AHEAD


@dataclass(frozen=True)
class BatchSettings:
    """How to run a batch.

    `concurrency` is the number of concurrent requests to the cloud. Unless `ordered`, answers are
    written as they arrive. A `strict` batch asks no more rows after the first that fails, other
    than those before it. Rows for local models go to the `cluster`, if there is one.
    """

    model: AsyncModel
    concurrency: int = 8
    ordered: bool = True
    strict: bool = False
    log: bool = True
    cluster: ClusterEngine | None = None


class BatchRun:
    """One run over the rows of an input.

    `interrupted` is true after Ctrl-C, a full disk or a lost cluster; `has_lost_cluster` tells the
    last of them apart.
    """

    def __init__(
        self, settings: BatchSettings, output: Output, journal: Journal | None, progress: Progress
    ) -> None:
        self.interrupted = self.has_lost_cluster = False
        self._stopped = False
        self._strict = settings.strict
        self._model = settings.model
        self._output, self._journal, self._progress = output, journal, progress
        self._asker = RowAsker(
            settings.model, settings.concurrency, log=settings.log, cluster=settings.cluster
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._order = RowOrder() if settings.ordered else None
        self._room = asyncio.Semaphore(rows_ahead(settings.cluster))
        self._reading: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unanswered: set[asyncio.Task[None]] = set()
        # The places of the rows that wait for their turn.
        self._waiting: dict[asyncio.Task[None], int] = {}
        self._write_error: OSError | None = None

    async def run(self, rows: Iterator[Row | BadRow]) -> None:
        """Answer the rows. Raises TieredError if the answers can't be written."""
        self._loop = asyncio.get_running_loop()
        with on_ctrl_c(self.interrupt):
            self._reading = asyncio.create_task(self._read(rows))
            if self.has_lost_cluster:
                self.interrupt()
            await asyncio.wait([self._reading])
            if self._tasks:
                await asyncio.wait(self._tasks)
        if self._write_error is None:
            self._finish_output()
        if isinstance(self._write_error, BrokenPipeError):
            raise self._write_error
        if self._write_error is not None:
            why = self._write_error.strerror
            raise TieredError(f"the answers can't be written: {why}") from self._write_error
        if not self._reading.cancelled():
            self._reading.result()

    def interrupt(self) -> None:
        """Start no more rows, and cancel the requests that are not answered yet."""
        self.interrupted = True
        self._stop()
        for task in self._unanswered:
            task.cancel()

    def lose_cluster(self) -> None:
        """Interrupt the run from another thread, because the cluster's scheduler is gone."""
        self.has_lost_cluster = True
        # The run may have ended by now.
        with suppress(RuntimeError):
            if self._loop:
                self._loop.call_soon_threadsafe(self.interrupt)

    def _stop(self) -> None:
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, rows: Iterator[Row | BadRow]) -> None:
        place = 0
        async with aclosing(feed(rows)) as read:
            async for row in read:
                await self._room.acquire()
                self._start(place, row)
                place += 1
                if self._stopped:
                    # A task that never has to wait doesn't notice that it was cancelled.
                    return

    def _start(self, place: int, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            self._fail(place, row, row.error)
            return
        answer = self._journal.find(row) if self._journal else None
        if answer:
            self._progress.add_skipped()
            self._place(place, answer)
            return
        task = asyncio.create_task(self._answer(place, row))
        for tasks in (self._tasks, self._unanswered):
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        self._waiting[task] = place
        task.add_done_callback(self._begin)

    async def _answer(self, place: int, row: Row) -> None:
        try:
            answer, price = await self._asker.ask(
                row, self._begin, lambda answer: self._keep(row, answer)
            )
        except Exception as error:
            if self._write_error is None:
                self._fail(place, row, reason(error, self._model))
            return
        self._progress.add_answer(answer, price)
        self._place(place, answer)

    def _begin(self, task: asyncio.Task[None] | None = None) -> None:
        """Note that the row of a task, by default this one, no longer waits for its turn."""
        if task or (task := asyncio.current_task()):
            self._waiting.pop(task, None)

    def _keep(self, row: Row, answer: dict[str, Any]) -> None:
        """Add an answer to the journal; from now on its task is not cancelled."""
        try:
            if self._journal:
                self._journal.add(row, answer)
        except OSError as error:
            self._give_up(error)
            raise
        task = asyncio.current_task()
        if task:
            self._unanswered.discard(task)

    def _fail(self, place: int, row: Row | BadRow, why: str) -> None:
        failure = {"id": row.id, "line": row.line, "error": why}
        self._progress.add_failure(failure)
        self._place(place, failure)
        if self._strict:
            self._stop()
            for task, other in self._waiting.items():
                if other > place:
                    task.cancel()

    def _place(self, place: int, answer: dict[str, Any]) -> None:
        """Write an answer, now or after the answers to all earlier rows."""
        for ready in self._order.add(place, answer) if self._order else [answer]:
            self._write(ready)

    def _write(self, answer: dict[str, Any]) -> None:
        self._room.release()
        try:
            if self._write_error is None:
                self._output.write(answer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._write_error = error
        self.interrupt()

    def _finish_output(self) -> None:
        """Write the remaining answers after an early stop, and cut off what an earlier run left."""
        try:
            if self._stopped:
                # The output may have gaps, but it holds every answer there is.
                for answer in self._order.waiting() if self._order else ():
                    self._output.write(answer)
                for answer in self._journal.unclaimed() if self._journal else ():
                    self._output.write(answer)
            self._output.cut()
        except OSError as error:
            self._write_error = error
