"""A prompt → a request to the engine, and its events → an answer; sync and async."""

from __future__ import annotations

import asyncio
import queue
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import llm

from ..errors import RequestError
from ..paths import kv_folder
from . import device
from .answer import Answer
from .engine.engine import ENGINE
from .engine.kv_disk import KvStore
from .engine.requests import GenerationRequest, Ticket
from .options import SAMPLING
from .tokens import messages, tools
from .weights import store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from llm.parts import StreamEvent

    from .catalog import ModelSpec
    from .engine.requests import Event
    from .models import LocalModel


def ask(model: LocalModel, prompt: llm.Prompt, response: llm.Response) -> Iterator[StreamEvent]:
    """Yield a model's answer in pieces. Raises TieredError."""
    answer = Answer(prompt, response)
    request: GenerationRequest | None = make_request(model, prompt)
    while request is not None:
        yield from _generate(request, answer)
        request = answer.again(request)
    yield from answer.calls()


async def ask_async(
    model: LocalModel, prompt: llm.Prompt, response: llm.AsyncResponse
) -> AsyncGenerator[StreamEvent, None]:
    """Async counterpart of `ask`."""
    answer = Answer(prompt, response)
    request: GenerationRequest | None = await asyncio.to_thread(make_request, model, prompt)
    while request is not None:
        async with aclosing(_generate_async(request, answer)) as events:
            async for event in events:
                yield event
        request = answer.again(request)
    for event in answer.calls():
        yield event


def check(model: LocalModel, *, allow_cpu: bool) -> None:
    """Raise ModelUnavailable if the model is known not to work on this machine just now."""
    if not _resident(model.spec):
        store.check(model.spec, memory_limit=model.limits().memory, allow_cpu=allow_cpu)


def make_request(model: LocalModel, prompt: llm.Prompt) -> GenerationRequest:
    """What the engine needs to know of a prompt. Its models are downloaded if they have to be.

    Raises ModelUnavailable or RequestError.
    """
    options: Any = prompt.options
    schema: Any = prompt.schema
    limits = model.limits()
    functions = [tool for tool in prompt.tools if isinstance(tool, llm.Tool)]
    return GenerationRequest(
        model=model.model_id,
        folder=_folder(model.spec, limits.memory),
        budget=limits.memory or device.detect().budget,
        chat=messages.to_chat(prompt.messages, tools=model.supports_tools),
        max_tokens=options.max_tokens or model.spec.max_tokens,
        sampling={
            name: value for name in SAMPLING if (value := getattr(options, name)) is not None
        },
        seed=options.seed,
        stop=tuple(options.stop or ()),
        schema=schema or None,
        tools=tuple(tools.specification(tool) for tool in functions),
        thinking=options.thinking,
        kv_bits=options.kv_bits,
        adapter=model.spec.adapter,
        draft=_draft(model, options.draft_model),
        kv_store=KvStore(kv_folder(), limits.kv_disk) if limits.kv_disk else None,
    )


def _draft(model: LocalModel, name: str | None) -> tuple[str, Path] | None:
    if name is None:
        return None
    spec = model.find(name)
    if spec is None:
        raise RequestError(f"no local model is called {name!r}", fix="llm tiered models")
    return spec.model_id, _folder(spec, model.limits().memory)


def _resident(spec: ModelSpec) -> Path | None:
    """The folder of the model in memory, unless the config has put another in its place."""
    folder = ENGINE.resident().get(spec.model_id)
    return folder if spec.path in (None, folder) else None


def _folder(spec: ModelSpec, memory_limit: int | None) -> Path:
    return _resident(spec) or store.ready(spec, memory_limit=memory_limit)


def _generate(request: GenerationRequest, answer: Answer) -> Iterator[StreamEvent]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ticket = Ticket()
    ENGINE.submit(request, events.put, ticket)
    try:
        while (taken := answer.take(events.get())) is not None:
            yield from taken
    finally:
        ticket.cancel()
        answer.close()


async def _generate_async(
    request: GenerationRequest, answer: Answer
) -> AsyncGenerator[StreamEvent, None]:
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event] = asyncio.Queue()
    ticket = Ticket()

    def emit(event: Event) -> None:
        if not ticket.cancelled.is_set():
            loop.call_soon_threadsafe(events.put_nowait, event)

    try:
        if not ENGINE.submit(request, emit, ticket, wait=False):
            await asyncio.to_thread(ENGINE.submit, request, emit, ticket)
        while (taken := answer.take(await events.get())) is not None:
            for event in taken:
                yield event
    finally:
        ticket.cancel()
        answer.close()
