"""From a prompt to a request to the engine, and from its events to the answer; sync and async."""

from __future__ import annotations

import asyncio
import queue
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

import llm

from .. import instructions
from ..errors import RequestError
from ..paths import kv_folder
from . import device
from .answer import AnswerStream
from .engine.engine import ENGINE
from .engine.kv_disk import KvStore
from .engine.requests import CancelToken, GenerationRequest
from .mailbox import mailbox
from .options import SAMPLING
from .tokens import messages, tools
from .weights import store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from llm.parts import StreamEvent

    from .catalog import ModelSpec
    from .engine.requests import Event, Limits


class PromptedModel(Protocol):
    """What a request needs to know of the model that it goes to."""

    spec: ModelSpec
    limits: Callable[[], Limits]
    find: Callable[[str], ModelSpec | None]

    @property
    def supports_tools(self) -> bool:
        """Whether the model's chat template supports tools."""


def ask(model: PromptedModel, prompt: llm.Prompt, response: llm.Response) -> Iterator[StreamEvent]:
    """Yield a model's answer in pieces. Raises TieredError."""
    instructions.record(prompt)
    answer = AnswerStream(prompt, response)
    request: GenerationRequest | None = make_request(model, prompt)
    while request is not None:
        yield from _generate(request, answer)
        request = answer.correction(request)
    yield from answer.tool_calls()


async def ask_async(
    model: PromptedModel, prompt: llm.Prompt, response: llm.AsyncResponse
) -> AsyncGenerator[StreamEvent, None]:
    """Async counterpart of `ask`."""
    instructions.record(prompt)
    answer = AnswerStream(prompt, response)
    request: GenerationRequest | None = await asyncio.to_thread(make_request, model, prompt)
    while request is not None:
        async with aclosing(_generate_async(request, answer)) as events:
            async for event in events:
                yield event
        request = answer.correction(request)
    for event in answer.tool_calls():
        yield event


def check(model: PromptedModel, *, allow_cpu: bool) -> None:
    """Raise ModelUnavailable if the model is known not to work on this machine right now."""
    if not _resident(model.spec):
        store.check(model.spec, memory_limit=model.limits().memory, allow_cpu=allow_cpu)


def make_request(model: PromptedModel, prompt: llm.Prompt) -> GenerationRequest:
    """Return the engine's request for a prompt, after downloading its models if necessary.

    Raises ModelUnavailable or RequestError.
    """
    options: Any = prompt.options
    schema: Any = prompt.schema
    limits = model.limits()
    functions = [tool for tool in prompt.tools if isinstance(tool, llm.Tool)]
    return GenerationRequest(
        model=model.spec.model_id,
        folder=_folder(model.spec, limits.memory),
        budget=limits.memory or device.detect().budget,
        chat=messages.to_chat(instructions.as_sent(prompt), tools=model.supports_tools),
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
        draft=_draft(model, options.draft_model, limits.memory),
        kv_store=KvStore(kv_folder(), limits.kv_disk) if limits.kv_disk else None,
        logprobs=options.logprobs,
    )


def _draft(
    model: PromptedModel, name: str | None, memory_limit: int | None
) -> tuple[str, Path] | None:
    """Return the id and the folder of the draft model."""
    if name is None:
        return None
    spec = model.find(name)
    if spec is None:
        raise RequestError(f"no local model is called {name!r}", fix="llm tiered models")
    return spec.model_id, _folder(spec, memory_limit)


def _folder(spec: ModelSpec, memory_limit: int | None) -> Path:
    return _resident(spec) or store.ready(spec, memory_limit=memory_limit)


def _resident(spec: ModelSpec) -> Path | None:
    """Return the folder of the model in memory, unless the config now names another folder."""
    folder = ENGINE.resident().get(spec.model_id)
    return folder if spec.path in (None, folder) else None


def _generate(request: GenerationRequest, answer: AnswerStream) -> Iterator[StreamEvent]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    cancel_token = CancelToken()
    ENGINE.submit(request, events.put, cancel_token)
    try:
        while (pieces := answer.take(events.get())) is not None:
            yield from pieces
    finally:
        cancel_token.cancel()
        answer.close()


async def _generate_async(
    request: GenerationRequest, answer: AnswerStream
) -> AsyncGenerator[StreamEvent, None]:
    box = mailbox()
    events: asyncio.Queue[Event] = asyncio.Queue()
    cancel_token = CancelToken()

    def emit(event: Event) -> None:
        if not cancel_token.cancelled:
            box.post(events.put_nowait, event)

    try:
        if not ENGINE.submit(request, emit, cancel_token, wait=False):
            await asyncio.to_thread(ENGINE.submit, request, emit, cancel_token)
        while (pieces := answer.take(await events.get())) is not None:
            for piece in pieces:
                yield piece
    finally:
        cancel_token.cancel()
        answer.close()
