"""Local models as llm knows them, sync and async. Wiring only."""

from __future__ import annotations

import asyncio
import json
import queue
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import llm
from llm.parts import StreamEvent

from ..errors import EngineError, RequestError
from . import device, messages, store, structured, tools
from .engine import ENGINE
from .kv_disk import KvStore
from .options import SAMPLING, Options
from .progress import PrefillBar
from .requests import (
    BadToolCall,
    Done,
    Event,
    Failed,
    GenerationRequest,
    Limits,
    Prefill,
    Reasoning,
    Text,
    Ticket,
    ToolCall,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from llm.models import _BaseResponse

    from .catalog import ModelSpec


class Answer:
    """One answer as it comes: the engine's events → llm's, and what they say of the response."""

    def __init__(self, prompt: llm.Prompt, response: _BaseResponse) -> None:
        self._prompt = prompt
        self._response = response
        self._text = ""
        self._told = False
        self._calls: list[ToolCall] = []
        self._bar = PrefillBar()
        self.bad_call: BadToolCall | None = None

    def take(self, event: Event) -> list[StreamEvent] | None:
        """The events for llm, or None once the answer is complete. Raises TieredError."""
        if isinstance(event, Prefill):
            self._bar.show(event.done, event.total)
            return []
        self._bar.close()
        if isinstance(event, Text):
            self._text += event.text
            return [StreamEvent(type="text", chunk=event.text)]
        if isinstance(event, Reasoning):
            hidden = self._prompt.hide_reasoning
            return [] if hidden else [StreamEvent(type="reasoning", chunk=event.text)]
        if isinstance(event, ToolCall):
            # One that is bad may follow, and then all of them are written again.
            self._calls.append(event)
            return []
        if isinstance(event, BadToolCall):
            self.bad_call = event
            return None
        if isinstance(event, Failed):
            raise event.error
        self._finish(event)
        return None

    def again(self, request: GenerationRequest) -> GenerationRequest | None:
        """The request that gives a bad tool call back to the model, or None if there was none.

        Raises EngineError the second time.
        """
        bad, self.bad_call = self.bad_call, None
        if bad is None:
            return None
        if self._told:
            raise EngineError(f"{request.model} wrote a bad tool call, twice: {bad.reason}")
        self._told = True
        said: dict[str, Any] = {"role": "assistant", "content": f"{self._text}{bad.text}"}
        if self._calls:
            said["tool_calls"] = [messages.tool_call(it.name, it.arguments) for it in self._calls]
            self._calls.clear()
        told = {
            "role": "user",
            "content": f"No tool was called, because that does not work: {bad.reason}. "
            "Write your tool calls again, corrected.",
        }
        return replace(request, chat=(*request.chat, said, told))

    def calls(self) -> Iterator[StreamEvent]:
        """The events of the tool calls, once the answer is complete."""
        for wanted in self._calls:
            call = llm.ToolCall(name=wanted.name, arguments=dict(wanted.arguments))
            self._response.add_tool_call(call)
            # llm has given it an id.
            call = self._response._tool_calls[-1]
            yield StreamEvent(
                type="tool_call_name", chunk=call.name, tool_call_id=call.tool_call_id
            )
            yield StreamEvent(
                type="tool_call_args",
                chunk=json.dumps(call.arguments, ensure_ascii=False),
                tool_call_id=call.tool_call_id,
            )

    def close(self) -> None:
        """Take the progress bar away, wherever the answer ended."""
        self._bar.close()

    def _finish(self, done: Done) -> None:
        schema = _schema(self._prompt)
        details = {"cached_tokens": done.cached_tokens} if done.cached_tokens else None
        self._response.set_usage(
            input=done.prompt_tokens, output=done.generation_tokens, details=details
        )
        self._response.response_json = _stats(done)
        self._check_whole(done)
        if schema and done.schema_level != "strict":
            structured.validate(self._text, schema)

    def _check_whole(self, done: Done) -> None:
        """Raise RequestError where a JSON answer ended before it was whole."""
        if done.cut_off_by == "length":
            raise RequestError(
                f"the JSON was cut off after {done.generation_tokens} tokens",
                fix="-o max_tokens allows more",
            )
        if done.cut_off_by == "stop string":
            raise RequestError("the JSON was cut off by a stop string")
        if done.cut_off_by == "model":
            model = self._prompt.model.model_id
            raise RequestError(f"{model} ended its turn before it wrote any JSON")


def _stats(done: Done) -> dict[str, Any]:
    facts = {
        "finish_reason": done.finish_reason,
        "prompt_tps": done.prompt_tps,
        "generation_tps": done.generation_tps,
        "peak_memory": done.peak_memory,
        "mean_logprob": done.mean_logprob,
        "lowest_logprob": done.lowest_logprob,
        "decile_logprob": done.decile_logprob,
        "schema_level": done.schema_level,
    }
    return {name: value for name, value in facts.items() if value is not None}


class _Shared:
    """What the sync and the async model have in common."""

    can_stream = True
    supports_schema = True
    # Privacy goes by this, and not by names.
    runs_here = True
    spec: ModelSpec

    def __init__(
        self,
        spec: ModelSpec,
        limits: Callable[[], Limits],
        find: Callable[[str], ModelSpec | None],
    ) -> None:
        self.model_id = spec.model_id
        self.spec = spec
        self._limits = limits
        self._find = find

    @property
    def supports_tools(self) -> bool:
        """Whether the model's chat template knows tools."""
        return store.knows_tools(self.spec)

    def check(self, *, allow_cpu: bool) -> None:
        """Raise ModelUnavailable if the model is known not to work on this machine just now."""
        if not self._resident(self.spec):
            store.check(self.spec, memory_limit=self._limits().memory, allow_cpu=allow_cpu)

    def request(self, prompt: llm.Prompt) -> GenerationRequest:
        """What the engine needs to know of a prompt. Its models are downloaded if they have to be.

        Raises ModelUnavailable or RequestError.
        """
        options: Any = prompt.options
        limits = self._limits()
        functions = [tool for tool in prompt.tools if isinstance(tool, llm.Tool)]
        return GenerationRequest(
            model=self.model_id,
            folder=self._folder(self.spec),
            budget=limits.memory or device.detect().budget,
            chat=messages.to_chat(prompt.messages, tools=self.supports_tools),
            max_tokens=options.max_tokens or self.spec.max_tokens,
            sampling={
                name: value for name in SAMPLING if (value := getattr(options, name)) is not None
            },
            seed=options.seed,
            stop=tuple(options.stop or ()),
            schema=_schema(prompt),
            tools=tuple(tools.specification(tool) for tool in functions),
            thinking=options.thinking,
            kv_bits=options.kv_bits,
            adapter=self.spec.adapter,
            draft=self._draft(options.draft_model),
            kv_store=KvStore(store.kv_folder(), limits.kv_disk) if limits.kv_disk else None,
        )

    def _draft(self, name: str | None) -> tuple[str, Path] | None:
        if name is None:
            return None
        spec = self._find(name)
        if spec is None:
            raise RequestError(f"no local model is called {name!r}", fix="llm tiered models")
        return spec.model_id, self._folder(spec)

    def _resident(self, spec: ModelSpec) -> Path | None:
        """The folder of the model in memory, unless the config has put another in its place."""
        folder = ENGINE.resident().get(spec.model_id)
        return folder if spec.path in (None, folder) else None

    def _folder(self, spec: ModelSpec) -> Path:
        resident = self._resident(spec)
        if resident:
            return resident
        store.check(spec, memory_limit=self._limits().memory, allow_cpu=True)
        return store.fetch(spec)


def _schema(prompt: llm.Prompt) -> dict[str, Any] | None:
    """The prompt's schema; llm has turned a Pydantic model into a dict by now."""
    schema: Any = prompt.schema
    return schema or None


class MlxModel(_Shared, llm.Model):  # type: ignore[override]  # computed there
    """A local model."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[StreamEvent]:
        """Yield the answer in pieces. Raises TieredError."""
        answer = Answer(prompt, response)
        request: GenerationRequest | None = self.request(prompt)
        while request is not None:
            yield from self._generate(request, answer)
            request = answer.again(request)
        yield from answer.calls()

    def _generate(self, request: GenerationRequest, answer: Answer) -> Iterator[StreamEvent]:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        ticket = Ticket()
        ENGINE.submit(request, events.put, ticket)
        try:
            while (taken := answer.take(events.get())) is not None:
                yield from taken
        finally:
            ticket.cancel()
            answer.close()


class AsyncMlxModel(_Shared, llm.AsyncModel):  # type: ignore[override]  # computed there
    """A local model, for asyncio."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the answer in pieces. Raises TieredError."""
        answer = Answer(prompt, response)
        request: GenerationRequest | None = await asyncio.to_thread(self.request, prompt)
        while request is not None:
            async for event in self._generate(request, answer):
                yield event
            request = answer.again(request)
        for event in answer.calls():
            yield event

    async def _generate(
        self, request: GenerationRequest, answer: Answer
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
