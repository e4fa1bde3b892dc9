"""The sync and the async driver of an exchange: they do its I/O and pass on its events."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from llm.parts import StreamEvent

from .. import command_line
from ..log import private, writer
from . import names
from .exchange import Call, Exchange, Next, Open, ToolCalls
from .inner import inner_response
from .request import request_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    import llm
    from llm.models import _BaseConversation

    from .exchange import Operation, Steps
    from .registry import Registry
    from .request import TieredRequest


def answer(  # noqa: PLR0913 - what llm passes to a model's execute
    registry: Registry,
    prompt: llm.Prompt,
    response: llm.Response,
    conversation: llm.Conversation | None,
    key: str | None,
    *,
    stream: bool,
) -> Iterator[StreamEvent]:
    """Yield the answer of the chosen model. Raises TieredError."""
    command_line.end_soon()
    request = request_for(response, prompt, conversation, key)
    names.warn(registry, request.settings)
    log = writer.destination(response, log_api=request.settings.config.log_api)
    if log:
        response.on_done(partial(writer.write, path=log))
    if kept := request.decision.kept:
        response.on_done(partial(private.remember, kept=kept))
    respond = _responder(request, prompt, conversation, stream=stream)
    exchange = Exchange(request, response, registry.get, respond)
    steps = exchange.steps()
    with closing(steps), ExitStack() as streams:
        # Called last, since a stream that is closed says what it has cost.
        streams.callback(exchange.billing.close)
        step = next(steps, None)
        while step is not None:
            if isinstance(step, StreamEvent):
                yield step
                step = _resume(steps)
                continue
            try:
                result = _perform(step, streams)
            except Exception as error:
                step = _resume(steps, error=error)
            else:
                step = _resume(steps, result)


async def answer_async(  # noqa: PLR0913 - as above
    registry: Registry,
    prompt: llm.Prompt,
    response: llm.AsyncResponse,
    conversation: llm.AsyncConversation | None,
    key: str | None,
    *,
    stream: bool,
) -> AsyncGenerator[StreamEvent, None]:
    """Async counterpart of `answer`."""
    command_line.end_soon()
    request = request_for(response, prompt, conversation, key)
    names.warn(registry, request.settings)
    log = writer.destination(response, log_api=request.settings.config.log_api)
    if log:
        await response.on_done(partial(writer.write_async, path=log))
    if kept := request.decision.kept:
        await response.on_done(partial(private.remember, kept=kept))
    respond = _responder(request, prompt, conversation, stream=stream)
    exchange = Exchange(request, response, registry.get_async, respond)
    steps = exchange.steps()
    async with AsyncExitStack() as streams:
        streams.callback(exchange.billing.close)
        streams.enter_context(closing(steps))
        step = next(steps, None)
        while step is not None:
            if isinstance(step, StreamEvent):
                yield step
                step = _resume(steps)
                continue
            try:
                result = await _perform_async(step, streams)
            except Exception as error:
                step = _resume(steps, error=error)
            else:
                step = _resume(steps, result)


def _responder(
    request: TieredRequest,
    prompt: llm.Prompt,
    conversation: _BaseConversation | None,
    *,
    stream: bool,
) -> Callable[[Any, llm.Options, Sequence[llm.Message]], Any]:
    """What makes the inner response for a model, its options and further messages."""

    def respond(inner: Any, options: llm.Options, more: Sequence[llm.Message]) -> Any:
        return inner_response(
            inner,
            options,
            more,
            prompt=prompt,
            stream=stream,
            conversation=conversation,
            key=request.key_for(inner),
        )

    return respond


def _perform(step: Operation, streams: ExitStack) -> Any:
    if isinstance(step, Next):
        return next(step.stream, None)
    if isinstance(step, Open):
        return streams.enter_context(closing(step.response.stream_events()))
    if isinstance(step, ToolCalls):
        return step.response.tool_calls()
    if isinstance(step, Call):
        return step.function()
    return time.sleep(step.seconds)


async def _perform_async(step: Operation, streams: AsyncExitStack) -> Any:
    if isinstance(step, Next):
        return await anext(step.stream, None)
    if isinstance(step, Open):
        return await streams.enter_async_context(aclosing(step.response.astream_events()))
    if isinstance(step, ToolCalls):
        return await step.response.tool_calls()
    if isinstance(step, Call):
        return await asyncio.to_thread(step.function)
    return await asyncio.sleep(step.seconds)


def _resume(
    steps: Steps, result: Any = None, *, error: Exception | None = None
) -> StreamEvent | Operation | None:
    """Hand a result or an error to the exchange; the next step, or None at the end."""
    try:
        return steps.send(result) if error is None else steps.throw(error)
    except StopIteration:
        return None
