"""Responses that llm's log has: by their ids, clients continue them and read them again."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llm.parts import ReasoningPart, TextPart, ToolCallPart

from ..errors import TieredError
from ..log import stored_turn, writer
from . import objects
from .failure import ApiError, bad_request
from .replies import is_cut_off, usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    import llm

    from ..log.stored_turn import StoredTurn

_RESPONSE = re.compile("resp_([0-9a-z]{26})")
_ITEM = re.compile("(?:msg|rs|fc)_([0-9a-z]{26})_([0-9]{1,4})")


def previous(id_: Any) -> list[llm.Message]:
    """Return the conversation up to a response. Raises ApiError."""
    name = "previous_response_id"
    missing = bad_request(_missing(name, id_), name, "previous_response_not_found")
    turn = _turn(_RESPONSE, id_, missing)
    return [*turn.before, *turn.answer]


def response(id_: str) -> dict[str, Any]:
    """Return a response as it was given. Raises ApiError."""
    turn = _turn(_RESPONSE, id_, ApiError(404, _missing("response", id_), code="not_found"))
    tokens = (turn.input_tokens, turn.output_tokens, turn.token_details)
    return objects.response(
        turn.id,
        created=int(turn.time.timestamp()),
        status=_status(turn),
        model=turn.model,
        output=_items(turn),
        usage=usage(turn.model, *tokens),
    )


def item(id_: Any, place: str) -> dict[str, Any]:
    """Return an item of a response. Raises ApiError."""
    missing = ApiError(404, _missing("item", id_), code="not_found", param=place)
    for each in _items(_turn(_ITEM, id_, missing)):
        if each["id"] == id_:
            return each
    raise missing


def _missing(what: str, id_: Any) -> str:
    if not isinstance(id_, str):
        return f"{what}: expected an id"
    return (
        f"{what}: llm's log has no {id_!r:.80}; it has none of those with store: false, or from "
        "when logging was off"
    )


def _turn(form: re.Pattern[str], id_: Any, missing: ApiError) -> StoredTurn:
    match = form.fullmatch(id_) if isinstance(id_, str) else None
    if match is None:
        raise missing
    try:
        turn = stored_turn.stored_turn(match[1])
    except TieredError as error:
        raise ApiError(503, str(error), code="log_unavailable") from None
    if turn is None and writer.is_behind():
        late = "answers wait to be written to llm's log, which is locked"
        raise ApiError(503, late, code="log_unavailable", headers={"retry-after": "1"})
    if turn is None:
        raise missing
    return turn


def _status(turn: StoredTurn) -> str:
    return objects.status(cut_off=is_cut_off(turn.response_json))


def _items(turn: StoredTurn) -> list[dict[str, Any]]:
    """Return what a client got of an answer: texts and thoughts as they came, then the calls."""
    items: list[dict[str, Any]] = []
    for kind, text in _texts(turn.answer):
        item = objects.text_item(kind, turn.id, len(items))
        items.append(item | {"content": [objects.part(kind, text)], "status": "completed"})
    for call in _calls(turn.answer):
        values = {"call_id": call.tool_call_id, "name": call.name}
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        item = objects.item("function_call", turn.id, len(items), **values, arguments=arguments)
        items.append(item | {"status": "completed"})
    if items and items[-1]["type"] != "function_call":
        items[-1]["status"] = _status(turn)
    return items


def _texts(messages: Iterable[llm.Message]) -> list[tuple[str, str]]:
    texts: list[tuple[str, str]] = []
    for part in (part for message in messages for part in message.parts):
        if not isinstance(part, (TextPart, ReasoningPart)) or not part.text:
            continue
        kind = "text" if isinstance(part, TextPart) else "reasoning"
        if texts and texts[-1][0] == kind:
            texts[-1] = (kind, texts[-1][1] + part.text)
        else:
            texts.append((kind, part.text))
    return texts


def _calls(messages: Iterable[llm.Message]) -> list[ToolCallPart]:
    parts = (part for message in messages for part in message.parts)
    return [part for part in parts if isinstance(part, ToolCallPart) and not part.server_executed]
