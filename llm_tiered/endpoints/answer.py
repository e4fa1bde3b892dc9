"""A server's answer: the chunks of a chat completion become llm's events as they arrive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm.parts import StreamEvent

from .. import logprobs
from ..errors import IncompleteAnswer, RequestError
from ..openai_plugin import FailedReply
from ..redaction import redact
from . import clipping, usage
from .characters import WholeCharacters
from .problems import unexpected
from .tool_calls import ToolCallDeltas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import llm
    from llm.models import _BaseResponse

# Servers use either name; some use both for the same text.
_THOUGHTS = ("reasoning", "reasoning_content")

# Fields of a reply that are logged.
_LOGGED = ("id", "model", "system_fingerprint")


class ServerAnswer:
    """Turns the chunks of an answer into llm's events, and records facts about it in the response.

    `address` is the server's, and `key` what it was sent. `failed` are the reasons why others of
    the tier did not answer.
    """

    def __init__(
        self,
        prompt: llm.Prompt,
        response: _BaseResponse,
        address: str,
        key: str | None = None,
        failed: Sequence[str] = (),
    ) -> None:
        self._prompt = prompt
        self._response = response
        self._key = key
        self._facts: dict[str, Any] = {"server": address}
        if failed:
            self._facts["failed_servers"] = [*failed]
        self._has_begun = False
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._text, self._thoughts = WholeCharacters(), WholeCharacters()
        self._calls = ToolCallDeltas()
        self._tokens: list[dict[str, Any]] = []
        self._thinks = False
        # Without a finish reason in it, the answer counts as incomplete.
        response.response_json = self._facts

    def take(self, chunk: Any) -> list[StreamEvent]:
        """Return llm's events for a chunk, or for a whole completion.

        Raises FailedReply if it is an error instead, or IncompleteAnswer if it is not an object.
        """
        chunk = _object(chunk, "an object")
        if error := chunk.get("error"):
            raise FailedReply(error if isinstance(error, dict) else {"message": str(error)})
        if chunk.get("usage"):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        if not choices:
            return []
        if not self._has_begun:
            self._has_begun = True
            told = {name: chunk[name] for name in _LOGGED if chunk.get(name)}
            if self._key:
                # They are logged, and a server may say anything.
                told = {name: redact(str(value), [self._key]) for name, value in told.items()}
            self._facts |= told
        choice = _object(choices[0] if isinstance(choices, list) else choices, "a choice")
        if reason := choice.get("finish_reason"):
            self._finish_reason = str(reason)
        delta = choice.get("delta") or choice.get("message")
        return list(self._events(delta, choice.get("logprobs"))) if delta else []

    def _events(self, delta: Any, likely: Any) -> Iterator[StreamEvent]:
        delta = _object(delta, "a piece of the answer")
        thoughts = next((text for name in _THOUGHTS if (text := delta.get(name))), None)
        if thoughts and isinstance(thoughts, str):
            self._thinks = True
            thoughts = self._thoughts.take(thoughts)
            if thoughts and not self._prompt.hide_reasoning:
                yield StreamEvent(type="reasoning", chunk=thoughts)
        tokens = _tokens(likely)
        self._tokens += tokens
        if text := self._text.take(_text(delta.get("content"))):
            if tokens:
                yield logprobs.TextEvent(type="text", chunk=text, logprobs=tokens)
            else:
                yield StreamEvent(type="text", chunk=text)
        if calls := delta.get("tool_calls"):
            self._calls.take(calls)

    def finish(self) -> Iterator[StreamEvent]:
        """Yield the last events, once the stream has ended.

        Raises IncompleteAnswer if it ended early, or RequestError if the prompt was clipped.
        """
        tokens = usage.read(self._usage)
        self._response.set_usage(input=tokens.input, output=tokens.output, details=tokens.details)
        if self._finish_reason is None:
            raise IncompleteAnswer("the stream ended without a finish reason")
        self._facts["finish_reason"] = self._finish_reason
        self._note_likelihood()
        clipping.check(self._prompt.messages, tokens.input)
        if tokens.reasoning and not self._thinks and not self._prompt.hide_reasoning:
            yield StreamEvent(type="reasoning", chunk="", redacted=True)
        yield from self._tool_calls()

    def _note_likelihood(self) -> None:
        values = [
            float(each["logprob"]) for each in self._tokens if _is_number(each.get("logprob"))
        ]
        if likely := logprobs.likelihood(values):
            self._facts |= {
                "mean_logprob": likely.mean,
                "lowest_logprob": likely.lowest,
                "decile_logprob": likely.decile,
            }
        options: Any = self._prompt.options
        if options.logprobs is not None and self._tokens:
            self._facts["logprobs"] = {"content": self._tokens}

    def _tool_calls(self) -> Iterator[StreamEvent]:
        if self._finish_reason == "length" and self._calls:
            raise RequestError("its tool calls were cut off at max_tokens", fix="raise max_tokens")
        for call in self._calls.whole():
            self._response.add_tool_call(call)
            # The response's own copy: llm gives it an id if the server did not.
            made = self._response._tool_calls[-1]
            yield StreamEvent("tool_call_name", made.name, tool_call_id=made.tool_call_id)
            arguments = json.dumps(made.arguments, ensure_ascii=False)
            yield StreamEvent("tool_call_args", arguments, tool_call_id=made.tool_call_id)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unexpected(value, what)
    return value


def _text(content: Any) -> str:
    """The text of a piece of the answer; some services send it in parts."""
    parts = content if isinstance(content, list) else [content or ""]
    texts = [part.get("text", "") if isinstance(part, dict) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise unexpected(content, "a text")
    return "".join(texts)


def _tokens(likely: Any) -> list[dict[str, Any]]:
    tokens = likely.get("content") if isinstance(likely, dict) else None
    return [each for each in tokens or () if isinstance(each, dict)]
