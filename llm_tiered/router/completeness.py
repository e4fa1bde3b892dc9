"""A response that has ended → what it lacks to be a whole answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .. import openai_plugin
from ..endings import Ending, ending
from ..errors import EmptyAnswer, IncompleteAnswer, RequestError
from .inner import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm.models import _BaseResponse
    from llm.parts import StreamEvent

    from ..errors import TieredError

RAISE_LIMIT = "raise max_tokens"


def check(
    response: _BaseResponse, events: Sequence[StreamEvent], *, calls: int, local: bool
) -> None:
    """Raise IncompleteAnswer, RequestError or the service's error if an answer is not whole.

    `events` are all those of the response, `calls` is the number of its tool calls. A text that is
    cut off at the limit of tokens is an answer, but JSON or a tool call is not; a `local` model has
    raised an error itself if it cut off either of them. With a schema, the text has to fit it
    unless tools are called.
    """
    openai_plugin.raise_for_failure(response.response_json)
    text = text_of(events)
    ended = _ending(response)
    if not text.strip() and not calls:
        thoughts = any(event.type == "reasoning" for event in events)
        raise _nothing(ended, thoughts=thoughts or _only_thought(response))
    if ended and ended.how == "broken":
        raise IncompleteAnswer(_stopped(ended))
    # To llm and its plugins, an empty schema is none.
    schema: Any = response.prompt.schema or None
    # Some plugins ask for JSON by way of a tool of their own.
    may_call = response.prompt.tools and schema is None
    if ended and ended.calls_tools and may_call and not calls:
        raise IncompleteAnswer("its tool call is missing")
    cut_off = is_cut_off(response) and not local
    if calls:
        if cut_off:
            raise RequestError("its tool calls were cut off at max_tokens", fix=RAISE_LIMIT)
        return
    wants_json = schema is not None or getattr(response.prompt.options, "json_object", None)
    if cut_off and wants_json and not _is_whole_json(text):
        raise RequestError("the JSON was cut off at max_tokens", fix=RAISE_LIMIT)
    if schema is not None:
        from .. import json_schema

        json_schema.validate(text, schema)


def is_cut_off(response: _BaseResponse) -> bool:
    """Whether a limit on the number of tokens ended the response."""
    ended = _ending(response)
    return ended is not None and ended.how == "limit"


def cut_off_call(
    response: _BaseResponse, events: Sequence[StreamEvent], error: Exception
) -> TieredError | None:
    """The error to raise if a plugin could not parse the arguments of a tool call, else None."""
    if not isinstance(error, json.JSONDecodeError):
        return None
    ended = _ending(response)
    calls = ended is not None and (ended.how == "limit" or ended.calls_tools)
    if not calls and not any(event.type == "tool_call_args" for event in events):
        return None
    return RequestError("a tool call was cut off, or is not JSON", fix=RAISE_LIMIT)


def _ending(response: _BaseResponse) -> Ending | None:
    """How the response ended, or None if that is not known."""
    if response.response_json is None and openai_plugin.is_of_plugin(response.model):
        return Ending("broken", None)
    return ending(response.response_json)


def _only_thought(response: _BaseResponse) -> bool:
    """Whether all tokens of the output were thoughts, which may not be shown."""
    output, details = response.output_tokens, response.token_details
    if not (output and details):
        return False
    from ..costs.usage import count_units

    try:
        counts = count_units(response.input_tokens or 0, output, details, None).counts
    except ValueError:
        return False
    return output == counts.get("output_reasoning_tokens")


def _nothing(ended: Ending | None, *, thoughts: bool) -> EmptyAnswer:
    what = "only thoughts" if thoughts else "answered with nothing"
    fix = RAISE_LIMIT if ended and ended.how == "limit" else None
    if thoughts and fix:
        return EmptyAnswer(f"{what}, cut off at max_tokens", fix=fix)
    if ended and ended.reason:
        return EmptyAnswer(f"{what} ({ended.reason})", fix=fix)
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
