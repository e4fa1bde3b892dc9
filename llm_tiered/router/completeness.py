"""An answer → what it lacks to be whole. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .. import json_schema
from ..endings import ending
from ..errors import EmptyAnswer, IncompleteAnswer, RequestError
from .inner import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llm.parts import StreamEvent

    from ..endings import Ending
    from ..errors import TieredError

RAISE_LIMIT = "raise max_tokens"


def check(  # noqa: PLR0913 - everything that an answer consists of
    events: Sequence[StreamEvent],
    reply: Any,
    *,
    calls: int = 0,
    schema: Mapping[str, Any] | None = None,
    json_object: bool = False,
    local: bool = False,
) -> None:
    """Raise IncompleteAnswer or RequestError if an answer that has ended is not whole.

    `reply` is the model's response_json, `calls` the number of its tool calls. A text that is cut
    off at the limit of tokens is an answer, but JSON or a tool call is not. A `local` model has
    raised an error if it cut off either of them. The text fits the schema unless tools are called.
    """
    text = text_of(events)
    ended = ending(reply)
    if not text.strip() and not calls:
        raise _nothing(events, ended)
    if ended and ended.how == "broken":
        raise IncompleteAnswer(_stopped(ended))
    if ended and ended.calls_tools and not calls:
        raise IncompleteAnswer("its tool call is missing")
    cut_off = is_cut_off(reply) and not local
    if calls:
        if cut_off:
            raise RequestError("its tool calls were cut off at max_tokens", fix=RAISE_LIMIT)
        return
    if cut_off and (schema is not None or json_object) and not _is_whole_json(text):
        raise RequestError("the JSON was cut off at max_tokens", fix=RAISE_LIMIT)
    if schema is not None:
        json_schema.validate(text, schema)


def is_cut_off(reply: Any) -> bool:
    """Whether a limit on the number of tokens ended the answer with this response_json."""
    ended = ending(reply)
    return ended is not None and ended.how == "limit"


def cut_off_call(events: Sequence[StreamEvent], error: Exception) -> TieredError | None:
    """The error to raise if a plugin could not parse the arguments of a tool call, else None."""
    arguments = any(event.type == "tool_call_args" for event in events)
    if arguments and isinstance(error, json.JSONDecodeError):
        return RequestError("a tool call was cut off, or is not JSON", fix=RAISE_LIMIT)
    return None


def _nothing(events: Sequence[StreamEvent], ended: Ending | None) -> EmptyAnswer:
    thoughts = any(event.type == "reasoning" for event in events)
    what = "only thoughts" if thoughts else "answered with nothing"
    if thoughts and ended and ended.how == "limit":
        return EmptyAnswer(f"{what}, cut off at max_tokens", fix=RAISE_LIMIT)
    if ended and ended.reason:
        return EmptyAnswer(f"{what} ({ended.reason})")
    return EmptyAnswer(f"{what}: {_stopped(ended)}" if ended else what)


def _stopped(ended: Ending) -> str:
    if ended.reason:
        return f"stopped by the service ({ended.reason})"
    return "the stream ended without a finish reason"


def _is_whole_json(text: str) -> bool:
    """Whether this is an object or an array; the digits of a number might go on."""
    try:
        return isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False
