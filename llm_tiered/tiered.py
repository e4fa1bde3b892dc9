"""The virtual model `tiered`: it picks a model for a prompt, asks it and hands on the answer."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import llm
from pydantic import Field

from . import config, nested
from .chain import Check, Recall, Wait
from .config import Fallback
from .errors import BrokenAnswer, RequestError, TieredError
from .log import api
from .routed import Routed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from llm.models import Attachment, _BaseConversation, _BaseModel, _BaseResponse
    from llm.parts import StreamEvent

    from .chain import Candidate, Problem
    from .log.cache_answers import Answer
    from .registry import Registry

Inner = TypeVar("Inner")
Events = TypeVar("Events")


class Options(llm.Options):
    """What a request can say to `tiered`. Without a value, the config decides."""

    complexity: int | None = Field(
        default=None, ge=1, le=10, description="How hard the task is, from 1 to 10."
    )
    task: str | None = Field(
        default=None, description="A named kind of work, with a complexity of its own."
    )
    tier: str | None = Field(
        default=None, description="The tier to use, by name; wins over complexity and task."
    )
    local_only: bool | None = Field(
        default=None, description="Nothing leaves this machine, whatever happens."
    )
    fallback: Fallback | None = Field(
        default=None, description="Who may answer if the tier can't: any, local or none."
    )
    cache: bool | None = Field(
        default=None, description="Answer from the log what was answered before."
    )
    escalate: bool | None = Field(
        default=None,
        description="Look at a local answer before showing it; a weak one goes a tier up.",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness of the answer; 0 takes the likeliest."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Largest number of tokens to generate."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Sample from the tokens that make up this share."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 64,
        description="The same seed gives the same answer, on a local model.",
    )


class _Shared:
    """What the sync and the async model have in common."""

    model_id = "tiered"
    can_stream = True
    registry: Registry

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The key of the request, for whichever model needs it; `tiered` needs none itself."""
        return explicit_key

    def _validate_attachments(self, attachments: list[Attachment] | None = None) -> None:
        """Leave it to the check of each model.

        llm would ask an attachment's server for its type, and the prompt may have to stay here.
        """

    # llm asks these before the prompt gets here, so `tiered` claims what any of its tiers can.

    @property
    def supports_schema(self) -> bool:
        """Whether any tier can do schemas."""
        return any(model.supports_schema for model in self._tier_models())

    @property
    def supports_tools(self) -> bool:
        """Whether any tier can use tools."""
        return any(model.supports_tools for model in self._tier_models())

    @property
    def attachment_types(self) -> set[str]:
        """The attachments that any tier can read."""
        return {kind for model in self._tier_models() for kind in model.attachment_types}

    @property
    def supported_server_side_tools(self) -> tuple[type[llm.ServerSideTool], ...]:
        """The server-side tools that any tier has."""
        models = self._tier_models()
        tools = [tool for model in models for tool in model.supported_server_side_tools]
        return tuple(dict.fromkeys(tools))

    def route(
        self, prompt: llm.Prompt, conversation: _BaseConversation | None, key: str | None
    ) -> Routed:
        """Decide where a prompt goes. Raises RequestError or ConfigError."""
        if not any(message.role != "system" for message in prompt.messages):
            raise RequestError("the prompt is empty")
        return Routed(prompt, conversation, key)

    def _tier_models(self) -> list[_BaseModel]:
        try:
            tiers = config.load().tiers
        except TieredError:
            # The mistake is told when a prompt comes; until then nothing is ruled out.
            tiers = config.Config().tiers
        return [self.registry.get(tier.model) for tier in tiers if tier.model in self.registry]


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


async def _write_in_thread(response: llm.AsyncResponse) -> None:
    await asyncio.to_thread(api.write, response)


class TieredModel(_Shared, llm.KeyModel):  # type: ignore[misc, override]  # computed there
    """The virtual model."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
        key: str | None,
    ) -> Iterator[StreamEvent]:
        """Yield the answer of the model that was picked. Raises TieredError."""
        routed = self.route(prompt, conversation, key)
        if api.wanted(log_api=routed.settings.config.log_api):
            response.on_done(api.write)
        answers: dict[str, _Answer[llm.Response, Generator[StreamEvent, None, None]]] = {}

        def ask(candidate: Candidate, correction: str | None) -> Problem | None:
            inner = self.registry.get(candidate.model)
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
                reply = routed.recall(step.candidate, self.registry.get)
            elif isinstance(step, Check):
                reply = routed.check(step.candidate, self.registry.get)
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


class AsyncTieredModel(_Shared, llm.AsyncKeyModel):  # type: ignore[misc, override]  # as above
    """The virtual model, for asyncio."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
        key: str | None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the answer of the model that was picked. Raises TieredError."""
        routed = self.route(prompt, conversation, key)
        if api.wanted(log_api=routed.settings.config.log_api):
            await response.on_done(_write_in_thread)
        answers: dict[str, _Answer[llm.AsyncResponse, AsyncGenerator[StreamEvent, None]]] = {}

        async def ask(candidate: Candidate, correction: str | None) -> Problem | None:
            inner = self.registry.get_async(candidate.model)
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
                reply = await asyncio.to_thread(
                    routed.recall, step.candidate, self.registry.get_async
                )
            elif isinstance(step, Check):
                reply = await asyncio.to_thread(
                    routed.check, step.candidate, self.registry.get_async
                )
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
