"""The sync and the async driver of the chain: its steps are done, and the answer handed on."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import llm

from ..errors import BrokenAnswer, RequestError
from ..log import writer as api
from . import inner as nested
from .attempts import Check, Recall, Wait
from .request import Routed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from llm.models import _BaseConversation, _BaseResponse
    from llm.parts import StreamEvent

    from ..cache.answers import Answer
    from .candidates import Candidate
    from .failures import Problem
    from .registry import Registry

Inner = TypeVar("Inner")
Events = TypeVar("Events")


def answer(  # noqa: PLR0913 - what llm gives a model to execute
    registry: Registry,
    prompt: llm.Prompt,
    response: llm.Response,
    conversation: llm.Conversation | None,
    key: str | None,
    *,
    stream: bool,
) -> Iterator[StreamEvent]:
    """Yield the answer of the model that was picked. Raises TieredError."""
    routed = _route(prompt, conversation, key)
    if api.wanted(log_api=routed.settings.config.log_api):
        response.on_done(api.write)
    answers: dict[str, _Answer[llm.Response, Generator[StreamEvent, None, None]]] = {}

    def ask(candidate: Candidate, correction: str | None) -> Problem | None:
        inner = registry.get(candidate.model)
        options = routed.options(candidate, inner)
        more = answers[candidate.model].corrected(correction) if correction else ()
        asked = nested.respond(
            inner,
            prompt,
            options,
            stream=stream,
            conversation=conversation,
            key=key,
            more=more,
        )
        answer = answers[candidate.model] = _Answer(asked, asked.stream_events())
        for event in answer.rest:
            answer.read.append(event)
            if event.chunk and not routed.judges(candidate):
                return None
        return routed.judge(candidate, answer.text, asked, asked.tool_calls())

    steps = routed.steps()
    reply: Problem | None = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as answered:
            candidate: Candidate = answered.value
            break
        reply = None
        if isinstance(step, Recall):
            reply = routed.recall(step.candidate, registry.get)
        elif isinstance(step, Check):
            reply = routed.check(step.candidate, registry.get)
        elif isinstance(step, Wait):
            time.sleep(step.seconds)
        else:
            try:
                reply = ask(step.candidate, step.correction)
            except Exception as error:
                begun = answers.get(step.candidate.model)
                reply = routed.failed(step.candidate, error, begun.text if begun else "")

    ttft_ms = routed.answered(candidate)
    if routed.recalled:
        yield from routed.recalled.events
        _finish_recalled(response, routed, routed.recalled, ttft_ms)
        return
    answer = answers[candidate.model]
    with closing(answer.rest), _unspliced(routed, candidate):
        yield from answer.read
        yield from answer.rest
    nested.finish(response, answer.inner, answer.inner.tool_calls())
    key = routed.answer_key(candidate, answer.inner.model)
    response.response_json = routed.record(ttft_ms, answer.inner.response_json, key=key)


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
    routed = _route(prompt, conversation, key)
    if api.wanted(log_api=routed.settings.config.log_api):
        await response.on_done(_write_in_thread)
    answers: dict[str, _Answer[llm.AsyncResponse, AsyncGenerator[StreamEvent, None]]] = {}

    async def ask(candidate: Candidate, correction: str | None) -> Problem | None:
        inner = registry.get_async(candidate.model)
        options = routed.options(candidate, inner)
        more = answers[candidate.model].corrected(correction) if correction else ()
        asked = nested.respond_async(
            inner,
            prompt,
            options,
            stream=stream,
            conversation=conversation,
            key=key,
            more=more,
        )
        answer = answers[candidate.model] = _Answer(asked, asked.astream_events())
        async for event in answer.rest:
            answer.read.append(event)
            if event.chunk and not routed.judges(candidate):
                return None
        return routed.judge(candidate, answer.text, asked, await asked.tool_calls())

    steps = routed.steps()
    reply: Problem | None = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as answered:
            candidate: Candidate = answered.value
            break
        reply = None
        if isinstance(step, Recall):
            reply = await asyncio.to_thread(routed.recall, step.candidate, registry.get_async)
        elif isinstance(step, Check):
            reply = await asyncio.to_thread(routed.check, step.candidate, registry.get_async)
        elif isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
        else:
            try:
                reply = await ask(step.candidate, step.correction)
            except Exception as error:
                begun = answers.get(step.candidate.model)
                reply = routed.failed(step.candidate, error, begun.text if begun else "")

    ttft_ms = routed.answered(candidate)
    if routed.recalled:
        for event in routed.recalled.events:
            yield event
        _finish_recalled(response, routed, routed.recalled, ttft_ms)
        return
    answer = answers[candidate.model]
    async with aclosing(answer.rest):
        with _unspliced(routed, candidate):
            for event in answer.read:
                yield event
            async for event in answer.rest:
                yield event
    nested.finish(response, answer.inner, await answer.inner.tool_calls())
    key = routed.answer_key(candidate, answer.inner.model)
    response.response_json = routed.record(ttft_ms, answer.inner.response_json, key=key)


@dataclass
class _Answer(Generic[Inner, Events]):
    """What an inner model answers: the events read so far, and where the rest comes from."""

    inner: Inner
    rest: Events
    read: list[StreamEvent] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was read of the answer itself."""
        return nested.text_of(self.read)

    def corrected(self, correction: str) -> list[llm.Message]:
        """What the model said, and what is said to that."""
        return [llm.assistant(self.text), llm.user(correction)]


def _finish_recalled(response: _BaseResponse, routed: Routed, answer: Answer, ttft_ms: int) -> None:
    """Say of a response that it came out of the log, for nothing."""
    response.set_usage(input=0, output=0)
    if answer.model:
        response.set_resolved_model(answer.model)
    response.response_json = routed.record(ttft_ms, answer.response_json)


@contextmanager
def _unspliced(routed: Routed, candidate: Candidate) -> Iterator[None]:
    """Turn what breaks after the first output into an error for people.

    Half an answer of one model is never completed by another.
    """
    try:
        yield
    except Exception as error:
        reason = routed.explain(error).reason
        raise BrokenAnswer(f"{candidate.model} broke off its answer: {reason}") from error


def _route(prompt: llm.Prompt, conversation: _BaseConversation | None, key: str | None) -> Routed:
    """Decide where a prompt goes. Raises RequestError or ConfigError."""
    if not any(message.role != "system" for message in prompt.messages):
        raise RequestError("the prompt is empty")
    return Routed(prompt, conversation, key)


async def _write_in_thread(response: llm.AsyncResponse) -> None:
    await asyncio.to_thread(api.write, response)
