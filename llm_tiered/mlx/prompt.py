"""From a prompt to a request to the engine, and from its events to the answer; sync and async."""

from __future__ import annotations

import asyncio
import queue
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import llm

from .. import command_line, instructions
from ..errors import ModelUnavailable, RequestError
from ..paths import kv_folder
from . import device
from .answer import AnswerStream
from .catalog import CPU_PARAMETERS
from .engine.engine import ENGINE
from .engine.kv_disk import KvStore
from .engine.requests import CancelToken, GenerationRequest, memory_name
from .engine.waiting import submit_later
from .mailbox import mailbox
from .options import SAMPLING
from .process import choice, crashes
from .process.client import RunningEngine
from .tokens import messages, tools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from llm.parts import StreamEvent

    from .catalog import ModelSpec
    from .engine.requests import Event, Limits
    from .process.choice import GenerationEngine


T = TypeVar("T")


class PromptedModel(Protocol):
    """What a request needs to know of the model that it goes to."""

    spec: ModelSpec
    limits: Callable[[], Limits]
    find: Callable[[str], ModelSpec | None]

    @property
    def supports_tools(self) -> bool:
        """Whether the model's chat template supports tools."""


class Resident(Protocol):
    """What knows the models in memory."""

    def resident(self) -> dict[str, Path]:
        """Return these models with their folders."""


def ask(model: PromptedModel, prompt: llm.Prompt, response: llm.Response) -> Iterator[StreamEvent]:
    """Yield a model's answer in pieces. Raises TieredError."""
    command_line.end_soon()
    instructions.record(prompt)
    answer = AnswerStream(prompt, response)
    engine = _engine_for(model)
    request: GenerationRequest | None = make_request(model, prompt, engine)
    while request is not None:
        yield from _generate(engine, request, answer)
        request = answer.correction(request)
    yield from answer.tool_calls()


async def ask_async(
    model: PromptedModel, prompt: llm.Prompt, response: llm.AsyncResponse
) -> AsyncGenerator[StreamEvent, None]:
    """Async counterpart of `ask`."""
    command_line.end_soon()
    instructions.record(prompt)
    answer = AnswerStream(prompt, response)
    request: GenerationRequest | None
    engine = choice.known_engine(_name(model.spec), model.limits())
    options: Any = prompt.options
    if engine is not None and _resident(model.spec, engine) and options.draft_model is None:
        _check(model.spec)
        # There is nothing to wait for, and a change of threads would take longer.
        request = make_request(model, prompt, engine)
    else:
        # Where models are elsewhere, nothing here has to be read or downloaded for them.
        call = _at_once if choice.elsewhere() else asyncio.to_thread
        engine = await call(_engine_for, model)
        request = await call(make_request, model, prompt, engine)
    while request is not None:
        async with aclosing(_generate_async(engine, request, answer)) as events:
            async for event in events:
                yield event
        request = answer.correction(request)
    for event in answer.tool_calls():
        yield event


async def _at_once(function: Callable[..., T], *arguments: Any) -> T:
    return function(*arguments)


def check_may_block(model: PromptedModel) -> bool:
    """Return whether `check` may read files or ask another process, so that it takes a while."""
    if choice.elsewhere():
        return False
    engine = choice.fresh_engine(_name(model.spec), model.limits())
    return engine is None or not _resident(model.spec, engine)


def check(model: PromptedModel, *, allow_cpu: bool) -> None:
    """Raise ModelUnavailable if the model is known not to work where it would run right now."""
    spec, limits = model.spec, model.limits()
    if distant := choice.elsewhere():
        distant.check(_name(spec))
        return
    _check_crashes(spec)
    name = _name(spec)
    engine = choice.running_engine(name, limits)
    # Somebody who named a large model may have had it loaded for a CPU.
    is_slow = isinstance(engine, RunningEngine) and engine.is_slow(name, CPU_PARAMETERS)
    if not _resident(spec, engine) or (is_slow and not allow_cpu):
        from .weights import store

        store.check(spec, memory_limit=limits.memory, allow_cpu=allow_cpu)


def make_request(
    model: PromptedModel, prompt: llm.Prompt, engine: GenerationEngine = ENGINE
) -> GenerationRequest:
    """Return the engine's request for a prompt, after downloading its models if necessary.

    Raises ModelUnavailable or RequestError.
    """
    options: Any = prompt.options
    schema: Any = prompt.schema
    limits = model.limits()
    sent = instructions.as_sent(prompt)
    functions = [tool for tool in prompt.tools if isinstance(tool, llm.Tool)]
    return GenerationRequest(
        model=model.spec.model_id,
        folder=_folder(model.spec, limits.memory, engine),
        budget=limits.memory or engine.budget or device.detect().budget,
        chat=messages.to_chat(sent, tools=not messages.are_texts(sent) and model.supports_tools),
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
        draft=_draft(model, options.draft_model, limits.memory, engine),
        kv_store=KvStore(kv_folder(), limits.kv_disk) if limits.kv_disk else None,
        logprobs=options.logprobs,
        prompt_lookup=options.prompt_lookup,
    )


def _draft(
    model: PromptedModel,
    name: str | None,
    memory_limit: int | None,
    engine: GenerationEngine,
) -> tuple[str, Path] | None:
    """Return the id and the folder of the draft model."""
    if name is None:
        return None
    spec = model.find(name)
    if spec is None:
        raise RequestError(f"no local model is called {name!r}", fix="llm tiered models")
    return spec.model_id, _folder(spec._replace(adapter=None), memory_limit, engine)


def _engine_for(model: PromptedModel) -> GenerationEngine:
    """Return the engine that answers. Raises ModelUnavailable if the model is left alone."""
    _check(model.spec)
    return choice.engine_for(_name(model.spec), model.limits())


def _check(spec: ModelSpec) -> None:
    try:
        _check_crashes(spec)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{spec.model_id}: {error.message}", fix=error.fix) from None


def _check_crashes(spec: ModelSpec) -> None:
    # Those were crashes of engines here.
    if not choice.elsewhere():
        crashes.check(_name(spec))


def _folder(spec: ModelSpec, memory_limit: int | None, engine: GenerationEngine) -> Path:
    folder = _resident(spec, engine)
    if folder is None:
        from .weights import store

        folder = store.ready(spec, memory_limit=memory_limit)
    return folder


def _resident(spec: ModelSpec, engine: Resident) -> Path | None:
    """Return the folder of the model in memory, unless the config now names another folder."""
    folder = engine.resident().get(_name(spec))
    return folder if spec.path in (None, folder) else None


def _name(spec: ModelSpec) -> str:
    return memory_name(spec.model_id, spec.adapter)


def _generate(
    engine: GenerationEngine, request: GenerationRequest, answer: AnswerStream
) -> Iterator[StreamEvent]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    cancel_token = CancelToken()
    engine.submit(request, events.put, cancel_token)
    try:
        while (pieces := answer.take(events.get())) is not None:
            yield from pieces
    finally:
        cancel_token.cancel()
        answer.close()


async def _generate_async(
    engine: GenerationEngine, request: GenerationRequest, answer: AnswerStream
) -> AsyncGenerator[StreamEvent, None]:
    box = mailbox()
    events: asyncio.Queue[Event] = asyncio.Queue()
    cancel_token = CancelToken()

    def emit(event: Event) -> None:
        if not cancel_token.cancelled:
            box.post(events.put_nowait, event)

    try:
        if not engine.submit(request, emit, cancel_token, wait=False):
            await submit_later(engine.submit, request, emit, cancel_token)
        while (pieces := answer.take(await events.get())) is not None:
            for piece in pieces:
                yield piece
    finally:
        cancel_token.cancel()
        answer.close()
