"""llm's events → OpenAI's chat completion, whole or in chunks; and what it shares."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from .. import fast_json
from ..costs.prices import provider_of
from ..costs.usage import count_units
from ..endings import ending
from ..log.record import inner_response
from ..logprobs import of_event
from .stop import Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    import llm
    from llm.parts import StreamEvent

    from .asking import ChatRequest

DONE = b"data: [DONE]\n\n"


class Reply:
    """The answer to a request, as it is sent."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._response = request.response
        self._stop = Stop(request.asked.stop)
        self._created = int(time.time())
        self._text: list[str] = []
        self._thoughts: list[str] = []
        # The tokens of the texts that have not been sent.
        self._tokens: list[dict[str, Any]] = []
        self._role: dict[str, str] = {"role": "assistant", "content": ""}

    def keep(self, event: StreamEvent) -> None:
        """Keep an event for the whole completion."""
        if event.type == "text":
            self._tokens += of_event(event)
            self._text.append(self._stop.take(event.chunk))
        elif event.type == "reasoning":
            self._thoughts.append(event.chunk)

    def whole(self) -> dict[str, Any]:
        """Return the completion, once the response is done."""
        calls = function_calls(self._response)
        text = "".join([*self._text, self._stop.rest()])
        thoughts = "".join(self._thoughts) or None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text or (None if calls else ""),
            "refusal": None,
        }
        if thoughts:
            message |= {"reasoning_content": thoughts, "reasoning": thoughts}
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs(text),
            "finish_reason": finish_reason(self._response, self._stop),
        }
        usage = usage_of(self._response)
        form = self._form("chat.completion", choices=[choice])
        return form | ({"usage": usage} if usage else {})

    def chunk(self, event: StreamEvent) -> bytes:
        """Return the chunk for an event; empty if it has nothing to show."""
        if event.type == "text":
            self._tokens += of_event(event)
            text = self._stop.take(event.chunk)
            return self._delta({"content": text}) if text else b""
        if event.type == "reasoning" and event.chunk:
            return self._delta({"reasoning_content": event.chunk, "reasoning": event.chunk})
        return b""

    def last_chunks(self) -> Iterator[bytes]:
        """Yield the chunks after the last event, once the response is done."""
        calls = function_calls(self._response)
        if rest := self._stop.rest():
            yield self._delta({"content": rest})
        for index, call in enumerate(calls):
            yield self._delta({"tool_calls": [{"index": index, **call}]})
        yield self._delta({}, finish_reason=finish_reason(self._response, self._stop))
        if self._request.asked.include_usage:
            usage = usage_of(self._response)
            yield sse(self._form("chat.completion.chunk", choices=[], usage=usage))
        yield DONE

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        # The role comes with the first piece.
        delta, self._role = self._role | delta, {}
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": self._logprobs(delta.get("content")),
            "finish_reason": finish_reason,
        }
        return sse(self._form("chat.completion.chunk", choices=[choice]))

    def _logprobs(self, text: Any) -> dict[str, Any] | None:
        """The tokens of a text that is sent, if they are asked for and known."""
        if not text or not self._tokens:
            return None
        tokens, self._tokens = self._tokens, []
        return {"content": tokens, "refusal": None}

    def _form(self, kind: str, **values: Any) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._response.id}",
            "object": kind,
            "created": self._created,
            "model": self._response.resolved_model or self._request.model,
            **values,
        }


def finish_reason(response: llm.AsyncResponse, stop: Stop) -> str:
    """Return why a finished response has ended, in OpenAI's words."""
    if response._tool_calls:
        return "tool_calls"
    if stop.has_ended:
        return "stop"
    return "length" if is_cut_off(response.response_json) else "stop"


def is_cut_off(response_json: Any) -> bool:
    """Return whether a limit of tokens has ended an answer."""
    ended = ending(inner_response(response_json))
    return ended is not None and ended.how == "limit"


def function_calls(response: llm.AsyncResponse) -> list[dict[str, Any]]:
    """Return the tool calls of a finished response in OpenAI's form."""
    return [_call(call) for call in response._tool_calls]


def sse(data: dict[str, Any]) -> bytes:
    """Return one event of a stream of server-sent events."""
    return b"data: " + fast_json.dumps(data) + b"\n\n"


def usage_of(response: llm.AsyncResponse) -> dict[str, Any] | None:
    """Return the tokens of a finished response in OpenAI's form, or None if they are unknown."""
    model = response.resolved_model or response.model.model_id
    return usage(model, response.input_tokens, response.output_tokens, response.token_details)


def usage(
    model: str, prompt: int | None, completion: int | None, details: Any
) -> dict[str, Any] | None:
    """Return tokens, and what a model tells of them, in OpenAI's form; None if they are unknown."""
    if prompt is None or completion is None:
        return None
    parts = _parts(model, prompt, completion, details)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": parts.get("cache_read_tokens", 0)},
        "completion_tokens_details": {"reasoning_tokens": parts.get("output_reasoning_tokens", 0)},
    }


def _parts(model: str, prompt: int, completion: int, details: Any) -> dict[str, int]:
    """Return how many of the tokens are of which kind, as far as the service says."""
    if not details:
        return {}
    try:
        return count_units(prompt, completion, details, provider_of(model)).counts
    except ValueError:
        return {}


def _call(call: llm.ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.tool_call_id, "type": "function", "function": function}
