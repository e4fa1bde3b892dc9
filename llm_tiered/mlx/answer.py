"""One answer as it arrives: the engine's events become llm's events."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import llm
from llm.parts import StreamEvent

from .. import logprobs
from ..errors import EmptyAnswer, IncompleteAnswer, RequestError
from .engine.requests import PROGRESS, BadToolCall, Done, Event, Failed, GenerationRequest
from .progress import ProgressLine
from .tokens import messages
from .tokens.decoding import Reasoning, Text
from .tokens.tools import ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm.models import _BaseResponse

    from .engine.requests import Limit
    from .tokens.logprobs import TokenLogprob

THINK_NOT = "ask again, or set thinking to 0"


class AnswerStream:
    """Turns the engine's events into llm's, and records usage and statistics in the response."""

    def __init__(self, prompt: llm.Prompt, response: _BaseResponse) -> None:
        self._prompt = prompt
        self._response = response
        self._text = ""
        self._logprobs: list[dict[str, Any]] = []
        self._thinks = False
        self._calls: list[ToolCall] = []
        self._bad_call: BadToolCall | None = None
        self._corrected: BadToolCall | None = None
        self._progress = ProgressLine()

    def take(self, event: Event) -> list[StreamEvent] | None:
        """Return llm's events for one of the engine's, or None once the answer is complete.

        Raises TieredError.
        """
        if isinstance(event, PROGRESS):
            self._progress.show(event)
            return []
        self._progress.close()
        if isinstance(event, Text):
            self._text += event.text
            tokens = [_described(token) for token in event.logprobs]
            self._logprobs += tokens
            return [logprobs.TextEvent(type="text", chunk=event.text, logprobs=tokens)]
        if isinstance(event, Reasoning):
            self._thinks = True
            hidden = self._prompt.hide_reasoning
            return [] if hidden else [StreamEvent(type="reasoning", chunk=event.text)]
        if isinstance(event, ToolCall):
            # Not passed on yet: after a bad call, the model writes all of them again.
            self._calls.append(event)
            return []
        if isinstance(event, BadToolCall):
            self._bad_call = event
            return None
        if isinstance(event, Failed):
            raise event.error
        self._finish(event)
        return None

    def correction(self, request: GenerationRequest) -> GenerationRequest | None:
        """Return the request that hands a bad tool call back to the model, or None without one.

        Raises IncompleteAnswer the second time, or if a limit cut the call off, as it would again.
        """
        bad, self._bad_call = self._bad_call, None
        if bad is None:
            return None
        self._set_usage(bad)
        if bad.limit:
            raise _cut_off("a tool call", bad.limit)
        if self._corrected:
            raise IncompleteAnswer(f"{request.model} wrote a bad tool call twice: {bad.reason}")
        self._corrected = bad
        turn: dict[str, Any] = {"role": "assistant", "content": f"{self._text}{bad.text}"}
        if self._calls:
            turn["tool_calls"] = [
                messages.tool_call(call.name, call.arguments) for call in self._calls
            ]
            self._calls.clear()
        complaint = {
            "role": "user",
            "content": f"No tool was called, because of a mistake: {bad.reason}. "
            "Write all your tool calls again, corrected.",
        }
        return replace(request, chat=(*request.chat, turn, complaint))

    def tool_calls(self) -> Iterator[StreamEvent]:
        """Yield the events of the tool calls, once the answer is complete."""
        for requested in self._calls:
            call = llm.ToolCall(name=requested.name, arguments=dict(requested.arguments))
            self._response.add_tool_call(call)
            # The response's own copy, because llm has given it an id.
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
        """Remove the progress from the terminal, wherever the answer ended."""
        self._progress.close()

    def _finish(self, done: Done) -> None:
        schema: Any = self._prompt.schema
        self._set_usage(done)
        self._response.response_json = _statistics(done)
        options: Any = self._prompt.options
        if options.logprobs is not None:
            self._response.response_json["logprobs"] = {"content": self._logprobs}
        self._check_content(done)
        self._check_complete(done)
        if schema:
            from .. import json_schema

            json_schema.validate(self._text, schema)

    def _set_usage(self, last: Done | BadToolCall) -> None:
        parts = [part for part in (self._corrected, last) if part]
        cached = sum(part.cached_tokens for part in parts)
        thoughts = sum(part.reasoning_tokens for part in parts)
        details: dict[str, Any] = {"cached_tokens": cached} if cached else {}
        if thoughts:
            details |= {"completion_tokens_details": {"reasoning_tokens": thoughts}}
        self._response.set_usage(
            input=sum(part.prompt_tokens for part in parts),
            output=sum(part.generation_tokens for part in parts),
            details=details or None,
        )

    def _check_complete(self, done: Done) -> None:
        """Raise RequestError if a JSON answer ended half way.

        A text that is cut off at max_tokens is an answer.
        """
        if done.cut_off_by == "length":
            raise RequestError(
                f"the JSON was cut off after {done.generation_tokens} tokens",
                fix="raise max_tokens",
            )
        if done.cut_off_by == "stop string":
            raise RequestError("the JSON was cut off by a stop string")
        if done.cut_off_by == "model":
            model = self._prompt.model.model_id
            raise RequestError(f"{model} ended its turn before it wrote any JSON")

    def _check_content(self, done: Done) -> None:
        """Raise EmptyAnswer if there is no answer, unless a stop string may have ended it."""
        options: Any = self._prompt.options
        if self._calls or self._text.strip():
            return
        if done.limit:
            raise _cut_off("only thoughts" if self._thinks else "no answer", done.limit)
        if options.stop and not done.in_thoughts:
            return
        if done.called_in_thoughts:
            raise EmptyAnswer(
                "only thoughts, with a tool call in them, where none is made", fix=THINK_NOT
            )
        if self._thinks:
            raise EmptyAnswer("only thoughts, and no answer after them")
        raise EmptyAnswer("answered with nothing")


def _cut_off(what: str, limit: Limit) -> EmptyAnswer:
    """Return the error for a limit that left no answer, only something else."""
    if limit == "max_tokens":
        return EmptyAnswer(f"{what}, cut off at max_tokens", fix="raise max_tokens")
    return EmptyAnswer(f"{what}, cut off where the context is full", fix="shorten the prompt")


def _described(token: TokenLogprob) -> dict[str, Any]:
    top = [logprobs.described(each.token, each.logprob) for each in token.top]
    return {**logprobs.described(token.token, token.logprob), "top_logprobs": top}


def _statistics(done: Done) -> dict[str, Any]:
    statistics = {
        "finish_reason": done.finish_reason,
        "prompt_tps": done.prompt_tps,
        "generation_tps": done.generation_tps,
        "peak_memory": done.peak_memory,
        "mean_logprob": done.mean_logprob,
        "lowest_logprob": done.lowest_logprob,
        "decile_logprob": done.decile_logprob,
        "schema_level": done.schema_level,
        "passes": done.passes,
        "guessed_tokens": done.guessed_tokens or None,
        "kept_tokens": done.kept_tokens if done.guessed_tokens else None,
    }
    return {name: value for name, value in statistics.items() if value is not None}
