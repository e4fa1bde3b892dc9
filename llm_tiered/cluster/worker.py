"""What runs on a worker of a Dask cluster: it answers requests with an engine of its own.

The driver sends these classes by name, so a worker needs this package in the same version.
"""

from __future__ import annotations

import asyncio
import platform
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..config.settings import load_settings
from ..errors import EngineError, ModelUnavailable, TieredError
from ..mlx import device
from ..mlx.engine.engine import ENGINE
from ..mlx.engine.requests import PROGRESS, BadToolCall, CancelToken, Done, Failed
from ..mlx.engine.waiting import submit_later
from ..mlx.mailbox import mailbox
from ..mlx.process import wire
from ..mlx.tokens.decoding import Text
from ..mlx.weights import store
from ..wording import gigabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ..mlx.catalog import ModelSpec
    from ..mlx.engine.requests import Event, GenerationRequest

# The resource that says how many requests a worker answers at the same time.
RESOURCE = "llm_tiered"

# Seconds until a worker without any news answers the driver, and after which a driver that no
# longer asks is gone.
NEWS_WITHIN = 5.0
GONE_AFTER = 30.0

# Seconds for which the first answer waits for others, so that they go together: a message costs as
# much as many answers. The worker begins with the next requests meanwhile.
_GATHERING = 0.03

# Seconds between two reports of a download.
_REPORT = 5.0

# Of several requests for a model that is missing, one downloads it and the others wait.
_fetching = threading.Lock()


@dataclass(frozen=True)
class WorkerRequest:
    """A request as plain data, with the model that it is for and a number of the driver's."""

    number: int
    spec: ModelSpec
    data: Any


@dataclass(frozen=True)
class WorkerAnswer:
    """What became of a request.

    `events` are those of the engine, each a line of JSON. `unfit` is the error if this worker can't
    run the model at all, so that another one may be asked.
    """

    number: int
    events: tuple[bytes, ...] = ()
    unfit: TieredError | None = None


@dataclass(frozen=True)
class News:
    """The answers that are ready since the last time, and lines about downloads."""

    answers: Sequence[WorkerAnswer]
    lines: Sequence[str]


class WorkerEngine:
    """The engine of a worker for one driver, as a Dask actor: it answers `rows` at the same time.

    A worker that was started again has another `session`, and knows nothing of what was sent to
    the one before.
    """

    def __init__(self, rows: int) -> None:
        self.session = uuid.uuid4().hex
        self._slots = asyncio.Semaphore(rows)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._answers: list[WorkerAnswer] = []
        self._lines: list[str] = []
        self._has_news = asyncio.Event()
        self._asked = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def submit(self, session: str, requests: Sequence[WorkerRequest]) -> None:
        """Begin to answer requests. Raises LookupError if they are for another session."""
        self._check(session)
        for request in requests:
            task = asyncio.create_task(self._answer(request))
            self._running[request.number] = task
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._notice_end())

    async def cancel(self, numbers: Sequence[int]) -> None:
        """Stop answering requests."""
        for number in numbers:
            if task := self._running.pop(number, None):
                task.cancel()

    async def news(self, session: str) -> News:
        """Return the next answers as soon as there are any. Raises LookupError as `submit` does."""
        self._check(session)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._has_news.wait(), NEWS_WITHIN)
            await asyncio.sleep(_GATHERING)
        self._has_news.clear()
        news = News(self._answers, self._lines)
        self._answers, self._lines = [], []
        return news

    async def start(self) -> str:
        """Return the session."""
        return self.session

    def _check(self, session: str) -> None:
        if session != self.session:
            raise LookupError("the worker was started again")
        self._asked = time.monotonic()

    async def _notice_end(self) -> None:
        """Cancel everything once the driver is gone."""
        while self._running:
            await asyncio.sleep(NEWS_WITHIN)
            if time.monotonic() - self._asked > GONE_AFTER:
                await self.cancel(list(self._running))

    async def _answer(self, request: WorkerRequest) -> None:
        number = request.number
        try:
            async with self._slots:
                events = await self._events(request)
            answer = WorkerAnswer(number, tuple(map(wire.dump_event, joined(events))))
        except ModelUnavailable as error:
            answer = WorkerAnswer(number, unfit=error)
        except TieredError as error:
            answer = WorkerAnswer(number, (wire.dump_event(Failed(error)),))
        except Exception as error:
            problem = EngineError(f"{platform.node()}: {type(error).__name__}: {error}")
            answer = WorkerAnswer(number, (wire.dump_event(Failed(problem)),))
        self._running.pop(number, None)
        self._answers.append(answer)
        self._has_news.set()

    async def _events(self, sent: WorkerRequest) -> list[Event]:
        """Return the engine's events. Raises ModelUnavailable if it can't use the model."""
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            def add() -> None:
                self._lines.append(f"{platform.node()}: {line}")
                self._has_news.set()

            loop.call_soon_threadsafe(add)

        request = wire.load_request(sent.data)
        is_ready = _resident(sent.spec, request) is not None
        if is_ready:
            request = _here(sent.spec, request, tell)
        else:
            # To read a model's files, or to fetch them, takes a while.
            request = await asyncio.to_thread(_here, sent.spec, request, tell)
        events: list[Event] = []
        ended = loop.create_future()
        box, token = mailbox(), CancelToken()

        def end(event: Event) -> None:
            if not ended.done():
                ended.set_result(event)

        def emit(event: Event) -> None:
            if isinstance(event, PROGRESS):
                return
            events.append(event)
            if isinstance(event, (Done, Failed, BadToolCall)):
                box.post(end, event)

        try:
            if not (is_ready and ENGINE.submit(request, emit, token, wait=False)):
                await submit_later(ENGINE.submit, request, emit, token)
            last = await ended
        finally:
            token.cancel()
        if isinstance(last, Failed) and isinstance(last.error, ModelUnavailable):
            raise last.error
        return events


def _resident(spec: ModelSpec, request: GenerationRequest) -> Path | None:
    """Return the folder of the model if it is in memory."""
    folder = ENGINE.resident().get(request.name)
    return folder if spec.path in (None, folder) else None


def _here(
    spec: ModelSpec, request: GenerationRequest, tell: Callable[[str], None]
) -> GenerationRequest:
    """Return the request with this machine's folders and memory. Raises TieredError."""
    config = load_settings().config
    limit = config.memory_limit
    folder = _resident(spec, request)
    if folder is None:
        with _fetching:
            store.check(spec, memory_limit=limit, allow_cpu=config.allow_cpu)
            folder = store.locate(spec) or _fetch(spec, tell)
    budget = limit or device.detect().budget
    return replace(request, folder=folder, budget=budget, draft=None, kv_store=None)


def _fetch(spec: ModelSpec, tell: Callable[[str], None]) -> Path:
    reported = 0.0

    def report(done: int, total: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > _REPORT:
            reported = time.monotonic()
            tell(f"downloading {spec.model_id}: {gigabytes(done)} of {gigabytes(total)}")

    report(0, spec.size or 0)
    folder = store.fetch(spec, show_progress=report)
    tell(f"{spec.model_id} is downloaded")
    return folder


def joined(events: Sequence[Event]) -> Iterator[Event]:
    """Join neighbouring texts, since the answer arrives as a whole anyway."""
    texts: list[Text] = []
    for event in events:
        if isinstance(event, Text):
            texts.append(event)
            continue
        yield from _one(texts)
        texts = []
        yield event


def _one(texts: Sequence[Text]) -> Iterator[Text]:
    text = "".join(each.text for each in texts)
    if text:
        yield Text(text, tuple(token for each in texts for token in each.logprobs))
