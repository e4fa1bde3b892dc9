"""Rows → answers: many under way at a time, written in order, within bounds."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.settings import load_settings
from ..errors import TieredError
from ..log import writer as api
from ..router.failures import explain
from ..router.model import AsyncTieredModel
from ..router.request import TieredRequest
from .ctrl_c import on_ctrl_c
from .feed import feed
from .limits import LOCAL_CONCURRENCY, is_local
from .report import cost
from .rows import BadRow, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    import llm

    from .journal import Journal
    from .limits import AsyncModel
    from .output import Output
    from .report import Report

# Rows that are read and not written yet. One that takes long holds up so many others at most.
AHEAD = 1000


@dataclass(frozen=True)
class Job:
    """How to run a batch.

    `concurrency` is that of the cloud. Unless it is `ordered`, answers are written as they come.
    A `strict` batch starts nothing more after the first row that fails.
    """

    model: AsyncModel
    concurrency: int = 8
    ordered: bool = True
    strict: bool = False
    log: bool = True


class Batch:
    """One run over the rows of an input."""

    def __init__(self, job: Job, output: Output, journal: Journal | None, report: Report) -> None:
        self.interrupted = False
        self._stopped = False
        self._job, self._output, self._journal, self._report = job, output, journal, report
        self._log_here = (
            job.log
            and not isinstance(job.model, AsyncTieredModel)
            and api.wanted(log_api=load_settings().config.log_api)
        )
        self._room = asyncio.Semaphore(AHEAD)
        # A request waits here, not at the gates of its models, so that its time in the log is its
        # own. Beyond the cloud's gate it can come by a fallback only.
        self._slots = {
            True: asyncio.Semaphore(LOCAL_CONCURRENCY),
            False: asyncio.Semaphore(job.concurrency),
        }
        self._reading: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unanswered: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, dict[str, Any]] = {}
        self._next = 0
        self._failure: OSError | None = None

    async def run(self, rows: Iterator[Row | BadRow]) -> None:
        """Answer the rows. Raises TieredError where the answers can't be written."""
        with on_ctrl_c(self.interrupt):
            self._reading = asyncio.create_task(self._read(rows))
            await asyncio.wait([self._reading])
            if self._tasks:
                await asyncio.wait(self._tasks)
        if self._failure is None:
            self._finish_output()
        if isinstance(self._failure, BrokenPipeError):
            raise self._failure
        if self._failure is not None:
            reason = self._failure.strerror
            raise TieredError(f"the answers can't be written: {reason}") from self._failure
        if not self._reading.cancelled():
            self._reading.result()

    def interrupt(self) -> None:
        """Start nothing more, and give up what is not answered yet."""
        self.interrupted = True
        self._stop()
        for task in self._unanswered:
            task.cancel()

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
                    # While there is nothing to wait for, being cancelled goes unnoticed.
                    return

    def _start(self, place: int, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            self._fail(place, row, row.error)
            return
        answer = self._journal.find(row) if self._journal else None
        if answer:
            self._report.add_skipped()
            self._place(place, answer)
            return
        task = asyncio.create_task(self._answer(place, row))
        for tasks in (self._tasks, self._unanswered):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer(self, place: int, row: Row) -> None:
        try:
            answer, price = await self._ask(row)
        except Exception as error:
            if self._failure is None:
                self._fail(place, row, _reason(error))
            return
        self._report.add_answer(answer, price)
        self._place(place, answer)

    async def _ask(self, row: Row) -> tuple[dict[str, Any], Decimal | None]:
        answers: list[dict[str, Any]] = []
        response = self._job.model.prompt(
            row.prompt, system=row.system, schema=row.schema, options=row.options
        )

        async def keep(_: llm.AsyncResponse) -> None:
            answers.append(await _describe(row, response))
            self._keep(row, answers[0])
            task = asyncio.current_task()
            if task:
                self._unanswered.discard(task)
            if not self._job.log:
                # What `tiered` has put there writes the log.
                response.done_callbacks.clear()

        # It comes before the log: an answer that is paid for is not lost while that is locked.
        await response.on_done(keep)
        async with self._slots[self._is_local(response)]:
            await response
        if self._log_here:
            await asyncio.to_thread(api.write, response)
        return answers[0], cost(response)

    def _is_local(self, response: llm.AsyncResponse) -> bool:
        """Whether the prompt is for a local model, unless that fails."""
        if isinstance(self._job.model, AsyncTieredModel):
            return TieredRequest(response.prompt, None, None).candidates[0].local
        return is_local(self._job.model)

    def _fail(self, place: int, row: Row | BadRow, reason: str) -> None:
        failure = {"id": row.id, "line": row.line, "error": reason}
        self._report.add_failure(failure)
        self._place(place, failure)
        if self._job.strict:
            self._stop()

    def _keep(self, row: Row, answer: dict[str, Any]) -> None:
        try:
            if self._journal:
                self._journal.add(row, answer)
        except OSError as error:
            self._give_up(error)
            raise

    def _place(self, place: int, answer: dict[str, Any]) -> None:
        """Write an answer, or let it wait for those before it."""
        if not self._job.ordered:
            self._write(answer)
            return
        self._waiting[place] = answer
        while self._next in self._waiting:
            self._write(self._waiting.pop(self._next))
            self._next += 1

    def _write(self, answer: dict[str, Any]) -> None:
        self._room.release()
        try:
            if self._failure is None:
                self._output.write(answer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._failure = error
        self.interrupt()

    def _finish_output(self) -> None:
        """Put what is left of an earlier output in order."""
        try:
            if self._stopped:
                # Gaps or not: what has been answered is there.
                for place in sorted(self._waiting):
                    self._output.write(self._waiting[place])
                for answer in self._journal.left() if self._journal else ():
                    self._output.write(answer)
            self._output.cut()
        except OSError as error:
            self._failure = error


async def _describe(row: Row, response: llm.AsyncResponse) -> dict[str, Any]:
    """The answer as it stands in the output."""
    text = response.text_or_raise()
    answer: dict[str, Any] = {"id": row.id, "line": row.line, "response": text}
    if row.schema:
        answer["json"] = _parsed(text)
    return answer | {
        "model": response.resolved_model or response.model.model_id,
        "tier": _tier(response.response_json),
        "input_tokens": response.input_tokens,
        "output_tokens": response.output_tokens,
        "ms": await response.duration_ms(),
    }


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text)
        # A number too large for Python has become infinite, and JSON has no word for that.
        json.dumps(found, allow_nan=False)
    except ValueError:
        return None
    return found


def _tier(response_json: dict[str, Any] | None) -> str | None:
    """The tier in whose name the model answered, which may be a fallback."""
    record = (response_json or {}).get("tiered")
    if not record:
        return None
    tier: str = record["attempts"][-1]["tier"] if record["attempts"] else record["tier"]
    return tier


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TieredError) else explain(error).reason
