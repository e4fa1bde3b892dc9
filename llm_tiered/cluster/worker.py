"""What runs on a worker of a Dask cluster: it answers requests with an engine of its own.

The driver sends these functions by name, so a worker needs this package in the same version.
"""

from __future__ import annotations

import importlib.metadata
import platform
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..config.settings import load_settings
from ..errors import ModelUnavailable, TieredError
from ..mlx import device
from ..mlx.engine.engine import ENGINE
from ..mlx.engine.requests import BadToolCall, CancelToken, Done, Failed, Prefill
from ..mlx.process import wire
from ..mlx.tokens.decoding import Text
from ..mlx.weights import store
from ..wording import gigabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..mlx.catalog import ModelSpec
    from ..mlx.engine.requests import Event, GenerationRequest

# The topic of what workers tell the driver, and the resource that says how many requests a worker
# answers at the same time.
TOPIC = RESOURCE = "llm_tiered"

# Seconds between two looks at whether the answer is still wanted, and between two reports of a
# download.
_LOOK = 0.5
_REPORT = 5.0

# Of several requests for a model that is missing, one downloads it and the others wait.
_fetching = threading.Lock()


@dataclass(frozen=True)
class WorkerAnswer:
    """What became of a request.

    `events` are those of the engine, each a line of JSON. `unfit` is the error if this worker can't
    run the model at all, so that another one may be asked.
    """

    worker: str
    events: tuple[bytes, ...] = ()
    unfit: TieredError | None = None


def answer(version: str, spec: ModelSpec, data: Any, *, leaves_pool: bool) -> WorkerAnswer:
    """Answer a request, given as plain data, to a model; `version` is the driver's.

    A task that leaves the worker's pool of threads lets the next one begin: the engine answers
    them together. Do so only if a resource limits their number.
    """
    import distributed

    worker = distributed.get_worker()
    key = worker.get_current_task()
    if leaves_pool:
        distributed.secede()  # type: ignore[no-untyped-call]  # it has no types

    def tell(text: str) -> None:
        worker.log_event(TOPIC, f"{platform.node()}: {text}")

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    here = importlib.metadata.version("llm-tiered")
    if here != version:
        error = ModelUnavailable(f"it has llm-tiered {here}, not {version}")
        return WorkerAnswer(worker.address, unfit=error)
    try:
        request = _here(spec, wire.load_request(data), tell)
        events = tuple(map(wire.dump_event, _joined(_generate(request, is_wanted))))
    except ModelUnavailable as error:
        return WorkerAnswer(worker.address, unfit=error)
    except TieredError as error:
        events = (wire.dump_event(Failed(error)),)
    return WorkerAnswer(worker.address, events)


def _here(
    spec: ModelSpec, request: GenerationRequest, tell: Callable[[str], None]
) -> GenerationRequest:
    """Return the request with this machine's folders and memory. Raises TieredError."""
    config = load_settings().config
    limit = config.memory_limit
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


def _generate(request: GenerationRequest, is_wanted: Callable[[], bool]) -> Iterator[Event]:
    """Yield the engine's events. Raises ModelUnavailable if the engine can't use the model."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    cancel_token = CancelToken()
    ENGINE.submit(request, events.put, cancel_token)
    event: Event | None = None
    looked = time.monotonic()
    try:
        while not isinstance(event, (Done, Failed, BadToolCall)):
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                if not is_wanted():
                    return
            with suppress(queue.Empty):
                event = events.get(timeout=_LOOK)
                if isinstance(event, Failed) and isinstance(event.error, ModelUnavailable):
                    raise event.error
                yield event
    finally:
        cancel_token.cancel()


def _joined(events: Iterator[Event]) -> Iterator[Event]:
    """Join neighbouring texts, since the answer arrives as a whole anyway."""
    text = Text("")
    for event in events:
        if isinstance(event, Prefill):
            continue
        if isinstance(event, Text):
            text = Text(text.text + event.text, text.logprobs + event.logprobs)
            continue
        if text.text:
            yield text
            text = Text("")
        yield event
