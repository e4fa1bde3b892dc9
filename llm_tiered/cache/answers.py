"""Answers in llm's log that can be reused, read-only."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from llm.parts import Message, ReasoningPart, StreamEvent, TextPart

from ..endings import ending
from ..log.database import parse_time
from ..log.messages import message_parts
from ..log.record import inner_response, repeatable_key
from .index import Position

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from llm.serialization import MessageDict

    from ..log.messages import PartRow

# The two columns at the end are there to fail on the log of an older llm, which lacks them.
_LAST = """
select rowid, id, typeof(response_json), typeof(tip_message_hash)
from turns where typeof(id) = 'text' order by rowid desc limit 1
"""

_AFTER = """
select rowid, id, case when model = 'tiered' then response_json end
from turns where rowid > ? and typeof(id) = 'text' order by rowid limit ?
"""

_TURN = """
select resolved_model, datetime_utc, response_json, tip_message_hash, parent_message_hash,
    role, provider_metadata
from turns join messages on hash = tip_message_hash where turns.id = ? and model = 'tiered'
"""

_TOOLS = """
select name, description from turn_tools join tools on tools.id = tool_id where turn_id = ?
"""

_SCHEMA = "select content from schemas join turns on schema_id = schemas.id where turns.id = ?"

_KEY = re.compile("[0-9a-f]{64}")

# Characters in one event of a repeated answer.
PIECE = 64


class LoggedKey(NamedTuple):
    """A turn of the log, with the key of its request if its answer can be repeated."""

    position: Position
    key: str | None

    @property
    def turn_id(self) -> str:
        """The id of the turn."""
        return self.position.turn_id


@dataclass(frozen=True)
class CachedAnswer:
    """An earlier answer.

    `model` is the model that gave it, and `response_json` what that model recorded. `time` is when
    the request was made, aware, or None if the log does not say. `events` stream the answer in the
    same parts as the first time.
    """

    turn_id: str
    model: str | None
    time: datetime | None
    events: tuple[StreamEvent, ...]
    response_json: Any


def last_position(log: sqlite3.Connection) -> Position | None:
    """Return the turn that was logged last; None for an empty log or one from an older llm."""
    try:
        row = log.execute(_LAST).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            return None
        raise
    return row and Position(*row[:2])


def still_there(log: sqlite3.Connection, position: Position) -> bool:
    """Return whether the log has that turn at that position."""
    row = log.execute("select id from turns where rowid = ?", (position.rowid,)).fetchone()
    return row is not None and bool(row[0] == position.turn_id)


def keys_after(log: sqlite3.Connection, position: Position | None, limit: int) -> list[LoggedKey]:
    """Return the turns that were logged after the position, in the order of logging."""
    rows = log.execute(_AFTER, (position.rowid if position else 0, limit)).fetchall()
    return [
        LoggedKey(Position(rowid, turn_id), _key(_parsed(text))) for rowid, turn_id, text in rows
    ]


def read_answer(log: sqlite3.Connection, turn_id: str, key: str) -> CachedAnswer | None:
    """Return the answer of a turn, or None unless it is undamaged, complete and has this key."""
    from llm.logs import message_hash

    row = log.execute(_TURN, (turn_id,)).fetchone()
    if not row:
        return None
    model, time, response_json, tip, parent, role, metadata = row
    try:
        message = _message(role, metadata, message_parts(log, [tip])[tip])
        if not _is_repeatable(message) or message_hash(message, parent) != tip:
            return None
        restored = _restored(log, turn_id, response_json, message)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    if _key(restored) != key:
        return None
    events = _events(message.parts)
    return CachedAnswer(turn_id, model, _time(time), events, inner_response(restored))


def _restored(log: sqlite3.Connection, turn_id: str, response_json: str, message: Message) -> Any:
    """Return the parsed response_json, with the texts that llm keeps only once put back in."""
    from llm.logs import resolve_payload

    if '"$' not in response_json:
        return json.loads(response_json)
    tools = log.execute(_TOOLS, (turn_id,)).fetchall()
    schema = log.execute(_SCHEMA, (turn_id,)).fetchone()
    return resolve_payload(response_json, [message], tools, schema and json.loads(schema[0]))


def _key(response_json: Any) -> str | None:
    """Return the key of the request if the answer is complete and not itself from the cache."""
    key = repeatable_key(response_json)
    if key is None or not _KEY.fullmatch(key):
        return None
    ended = ending(inner_response(response_json))
    return key if ended is None or ended.how == "whole" else None


def _message(role: str, metadata: Any, rows: Sequence[PartRow]) -> Message:
    parts = [(_parsed(row.payload) or {}) | {"type": row.kind, "text": row.text} for row in rows]
    message: dict[str, Any] = {"role": role, "parts": parts, "provider_metadata": _parsed(metadata)}
    return Message.from_dict(cast("MessageDict", message))


def _is_repeatable(message: Message) -> bool:
    """Return whether it is an assistant's message with some text, and only text and reasoning."""
    return (
        message.role == "assistant"
        and all(isinstance(part, TextPart | ReasoningPart) for part in message.parts)
        and any(isinstance(part, TextPart) and part.text.strip() for part in message.parts)
    )


def _events(parts: Sequence[Any]) -> tuple[StreamEvent, ...]:
    return tuple(event for index, part in enumerate(parts) for event in _pieces(part, index))


def _pieces(part: TextPart | ReasoningPart, part_index: int) -> list[StreamEvent]:
    events = [
        StreamEvent(
            type="reasoning" if isinstance(part, ReasoningPart) else "text",
            chunk=part.text[start : start + PIECE],
            part_index=part_index,
            redacted=getattr(part, "redacted", False),
        )
        for start in range(0, len(part.text) or 1, PIECE)
    ]
    events[-1].provider_metadata = part.provider_metadata
    return events


def _parsed(text: Any) -> Any:
    """Parse JSON; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _time(text: Any) -> datetime | None:
    try:
        return parse_time(text)
    except (ValueError, TypeError):
        return None
