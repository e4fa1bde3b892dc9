"""Local models as llm knows them, sync and async. Wiring only."""

from __future__ import annotations

import asyncio
import json
import queue
from typing import TYPE_CHECKING, Any

import llm
from pydantic import Field, field_validator

from . import device, messages, store
from .engine import ENGINE, Done, Event, Failed, GenerationRequest, Text, Ticket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from llm.models import _BaseResponse

    from .catalog import ModelSpec


class Options(llm.Options):
    """What a request can say to a local model. Without a value, the model's own default holds."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness of the answer; 0 takes the likeliest."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Largest number of tokens to generate."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Sample from the tokens that make up this share."
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="Drop tokens less likely than this share of the best."
    )
    seed: int | None = Field(
        default=None, ge=0, description="The same seed and prompt give the same answer."
    )
    stop: str | list[str] | None = Field(
        default=None, description="End the answer before this text, or any of a JSON list of texts."
    )

    @field_validator("stop")
    @classmethod
    def _listed(cls, value: str | list[str] | None) -> list[str] | None:
        """A list, whichever way it was given."""
        if isinstance(value, str) and value.startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                value = [str(value)]
        stops = [value] if isinstance(value, str) else value
        if stops is not None and not all(isinstance(stop, str) and stop for stop in stops):
            raise ValueError("expected a text or a JSON list of texts, none of them empty")
        return stops


class _Shared:
    """What the sync and the async model have in common."""

    can_stream = True
    spec: ModelSpec

    def __init__(self, spec: ModelSpec, memory_limit: Callable[[], int | None]) -> None:
        self.model_id = spec.model_id
        self.spec = spec
        self._memory_limit = memory_limit

    def check(self, *, allow_cpu: bool) -> None:
        """Raise ModelUnavailable if the model is known not to work on this machine just now."""
        if self.model_id not in ENGINE.resident():
            store.check(self.spec, memory_limit=self._memory_limit(), allow_cpu=allow_cpu)

    def folder(self) -> Path:
        """The model's files, downloaded first if they have to be. Raises ModelUnavailable."""
        resident = ENGINE.resident().get(self.model_id)
        if resident:
            return resident
        self.check(allow_cpu=True)
        return store.fetch(self.spec)

    def request(self, prompt: llm.Prompt, folder: Path) -> GenerationRequest:
        """What the engine needs to know of a prompt."""
        options: Any = prompt.options
        sampling = {
            name: value
            for name in ("temperature", "top_p", "min_p")
            if (value := getattr(options, name)) is not None
        }
        return GenerationRequest(
            model=self.model_id,
            folder=folder,
            budget=self._memory_limit() or device.detect().budget,
            chat=messages.to_chat(prompt.messages),
            max_tokens=options.max_tokens or self.spec.max_tokens,
            sampling=sampling,
            seed=options.seed,
            stop=tuple(options.stop or ()),
        )

    def take(self, event: Event, response: _BaseResponse) -> str | None:
        """The text of an event, or None for the last one, which goes into the response."""
        if isinstance(event, Text):
            return event.text
        if isinstance(event, Failed):
            raise event.error
        response.set_usage(input=event.prompt_tokens, output=event.generation_tokens)
        response.response_json = _stats(event)
        return None


def _stats(done: Done) -> dict[str, Any]:
    return {
        "finish_reason": done.finish_reason,
        "prompt_tps": done.prompt_tps,
        "generation_tps": done.generation_tps,
        "peak_memory": done.peak_memory,
    }


class MlxModel(_Shared, llm.Model):
    """A local model."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        """Yield the answer in pieces. Raises TieredError."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        ticket = Ticket()
        ENGINE.submit(self.request(prompt, self.folder()), events.put, ticket)
        try:
            while (text := self.take(events.get(), response)) is not None:
                yield text
        finally:
            ticket.cancel()


class AsyncMlxModel(_Shared, llm.AsyncModel):
    """A local model, for asyncio."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[str, None]:
        """Yield the answer in pieces. Raises TieredError."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def emit(event: Event) -> None:
            if not ticket.cancelled.is_set():
                loop.call_soon_threadsafe(events.put_nowait, event)

        request = self.request(prompt, await asyncio.to_thread(self.folder))
        ticket = Ticket()
        ENGINE.submit(request, emit, ticket)
        try:
            while (text := self.take(await events.get(), response)) is not None:
                yield text
        finally:
            ticket.cancel()
