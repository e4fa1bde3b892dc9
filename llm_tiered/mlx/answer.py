"""One answer as it comes: the engine's events → llm's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import llm
from llm.parts import StreamEvent

from .. import json_schema
from ..errors import EngineError, RequestError
from .engine.requests import (
    BadToolCall,
    Done,
    Event,
    Failed,
    GenerationRequest,
    Prefill,
    Reasoning,
    Text,
    ToolCall,
)
from .progress import PrefillBar
from .tokens import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm.models import _BaseResponse


class Answer:
    """Turns events into those of llm, and keeps what they say of the response."""

    def __init__(self, prompt: llm.Prompt, response: _BaseResponse) -> None:
        self._prompt = prompt
        self._response = response
        self._text = ""
        self._corrected: BadToolCall | None = None
        self._calls: list[ToolCall] = []
        self._bar = PrefillBar()
        self._bad_call: BadToolCall | None = None

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
            self._bad_call = event
            return None
        if isinstance(event, Failed):
            raise event.error
        self._finish(event)
        return None

    def again(self, request: GenerationRequest) -> GenerationRequest | None:
        """The request that gives a bad tool call back to the model, or None if there was none.

        Raises EngineError the second time.
        """
        bad, self._bad_call = self._bad_call, None
        if bad is None:
            return None
        if self._corrected:
            raise EngineError(f"{request.model} wrote a bad tool call, twice: {bad.reason}")
        self._corrected = bad
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
        schema: Any = self._prompt.schema
        parts = [part for part in (self._corrected, done) if part]
        cached = sum(part.cached_tokens for part in parts)
        self._response.set_usage(
            input=sum(part.prompt_tokens for part in parts),
            output=sum(part.generation_tokens for part in parts),
            details={"cached_tokens": cached} if cached else None,
        )
        self._response.response_json = _stats(done)
        self._check_whole(done)
        if schema and done.schema_level != "strict":
            json_schema.validate(self._text, schema)

    def _check_whole(self, done: Done) -> None:
        """Raise RequestError where a JSON answer ended before it was whole."""
        if done.cut_off_by == "length":
            raise RequestError(
                f"the JSON was cut off after {done.generation_tokens} tokens",
                fix="a larger max_tokens",
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
