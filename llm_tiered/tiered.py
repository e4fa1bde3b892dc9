"""The virtual model `tiered`: it picks a model for a prompt, asks it and hands on the answer."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import aclosing, closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import llm
from pydantic import Field

from . import chain, config, nested, readiness
from .chain import Attempt, Candidate, Check, Cooldowns, Problem, Wait
from .config import Fallback
from .errors import BrokenAnswer, EmptyAnswer, ModelUnavailable, RequestError, TieredError
from .failures import explain
from .log import api
from .log import conversation as history
from .routing import Decision, Request, decide

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from llm.models import Attachment, _BaseConversation, _BaseModel, _BaseResponse
    from llm.parts import StreamEvent

    from .registry import Registry

logger = logging.getLogger("llm_tiered")

COOLDOWNS = Cooldowns()


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


class Routed:
    """One request on its way: the decision, the attempts, and who answered."""

    def __init__(
        self,
        prompt: llm.Prompt,
        conversation: _BaseConversation | None,
        key: str | None,
    ) -> None:
        self.started = time.perf_counter()
        self.prompt = prompt
        self.key = key
        self.settings = config.load()
        self.attempts: list[Attempt] = []
        options: Any = prompt.options
        tier, complexity = history.last_tier(conversation)
        request = Request(
            text=nested.last_said(prompt),
            complexity=options.complexity,
            task=options.task,
            tier=options.tier,
            local_only=bool(options.local_only),
            fallback=options.fallback,
            conversation_tier=tier,
            conversation_complexity=complexity,
        )
        self.decision: Decision = decide(request, self.settings)
        self.candidates: tuple[Candidate, ...] = chain.order(self.decision, self.settings)
        self.requested: dict[str, Any] = {
            name: value for name in nested.SAMPLING if (value := getattr(options, name)) is not None
        }

    def check(self, candidate: Candidate, find: Callable[[str], _BaseModel]) -> Problem | None:
        """Why the candidate is known not to work, or None. `find` gives a model by its name."""
        try:
            inner = find(candidate.model)
            if candidate.local and not getattr(inner, "runs_here", False):
                raise ModelUnavailable("has the name of a local model, and is none")
            self.options(candidate, inner)
            readiness.check(inner, self.prompt, self.settings.config, self.key)
        except (llm.ModelError, ValueError) as error:
            return self.explain(error)
        return None

    def options(self, candidate: Candidate, inner: _BaseModel) -> llm.Options:
        """The inner model's options for this request."""
        return nested.inner_options(inner, candidate.options, self.requested)

    def explain(self, error: Exception) -> Problem:
        """What went wrong with an attempt."""
        return explain(error, secrets=_secrets(self.key))

    def answered(self, candidate: Candidate) -> int:
        """Tell of a fallback, once; gives the milliseconds up to the first output."""
        if candidate is not self.candidates[0]:
            why = "; ".join(
                f"{attempt.model} {attempt.outcome}: {attempt.reason}"
                for attempt in self.attempts[:-1]
            )
            logger.warning("%s answers for %s. %s", candidate.model, self.decision.tier, why)
        return round((time.perf_counter() - self.started) * 1000)

    def record(self, inner: _BaseResponse, ttft_ms: int) -> dict[str, Any]:
        """What the log keeps of this request."""
        decision = self.decision
        rollout = {"rollout": asdict(decision.rollout)} if decision.rollout else {}
        return {
            "tiered": {
                "complexity": decision.complexity,
                "source": decision.source,
                "task": decision.task,
                "tier": decision.tier,
                "attempts": [attempt.as_dict() for attempt in self.attempts],
                "ttft_ms": ttft_ms,
                "cached_from": None,
                **rollout,
            },
            "response": inner.response_json,
        }


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


def _first_output(inner: llm.Response, events: Iterator[StreamEvent]) -> list[StreamEvent]:
    """The events up to the first that holds anything. Raises EmptyAnswer if none does."""
    read = []
    for event in events:
        read.append(event)
        if event.chunk:
            return read
    if inner.tool_calls():
        return read
    raise _empty(inner)


async def _first_output_async(
    inner: llm.AsyncResponse, events: AsyncIterator[StreamEvent]
) -> list[StreamEvent]:
    """Async counterpart of `_first_output`."""
    read = []
    async for event in events:
        read.append(event)
        if event.chunk:
            return read
    if inner.tool_calls_or_raise():
        return read
    raise _empty(inner)


def _empty(inner: _BaseResponse) -> EmptyAnswer:
    """The error for an answer without content, with the reason that the service gave."""
    said: Any = inner.response_json or {}
    candidates = said.get("candidates") or [{}]
    reason = said.get("promptFeedback", {}).get("blockReason") or candidates[0].get("finishReason")
    return EmptyAnswer("answered with nothing" + (f" ({reason})" if reason else ""))


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


def _secrets(key: str | None) -> list[str | None]:
    """The keys that must not be shown: the request's, the environment's and the stored ones."""
    try:
        stored: dict[str, str] = llm.load_keys()
    except (OSError, ValueError):
        stored = {}
    # What the request calls its key can be the name of a stored one.
    given = None if key in stored else key
    return [given, os.environ.get("LLM_GEMINI_KEY"), *stored.values()]


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

        def start(candidate: Candidate) -> llm.Response:
            inner = self.registry.get(candidate.model)
            options = routed.options(candidate, inner)
            return nested.respond(
                inner, prompt, options, stream=stream, conversation=conversation, key=key
            )

        steps = chain.run(routed.candidates, COOLDOWNS, routed.attempts)
        reply: Problem | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as answered:
                candidate: Candidate = answered.value
                break
            reply = None
            if isinstance(step, Check):
                reply = routed.check(step.candidate, self.registry.get)
            elif isinstance(step, Wait):
                time.sleep(step.seconds)
            else:
                try:
                    inner = start(step.candidate)
                    events = inner.stream_events()
                    first = _first_output(inner, events)
                except Exception as error:
                    reply = routed.explain(error)

        ttft_ms = routed.answered(candidate)
        with closing(events), _unspliced(routed, candidate):
            yield from first
            yield from events
        nested.finish(response, inner, inner.tool_calls())
        response.response_json = routed.record(inner, ttft_ms)


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

        def start(candidate: Candidate) -> llm.AsyncResponse:
            inner = self.registry.get_async(candidate.model)
            options = routed.options(candidate, inner)
            return nested.respond_async(
                inner, prompt, options, stream=stream, conversation=conversation, key=key
            )

        steps = chain.run(routed.candidates, COOLDOWNS, routed.attempts)
        reply: Problem | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as answered:
                candidate: Candidate = answered.value
                break
            reply = None
            if isinstance(step, Check):
                reply = await asyncio.to_thread(
                    routed.check, step.candidate, self.registry.get_async
                )
            elif isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            else:
                try:
                    inner = start(step.candidate)
                    events = inner.astream_events()
                    first = await _first_output_async(inner, events)
                except Exception as error:
                    reply = routed.explain(error)

        ttft_ms = routed.answered(candidate)
        async with aclosing(events):
            with _unspliced(routed, candidate):
                for event in first:
                    yield event
                async for event in events:
                    yield event
        nested.finish(response, inner, await inner.tool_calls())
        response.response_json = routed.record(inner, ttft_ms)
