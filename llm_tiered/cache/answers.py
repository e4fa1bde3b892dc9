"""The answers in llm's log that can be given again, read-only."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from llm.parts import Message, ReasoningPart, StreamEvent, TextPart

from .. import gemini
from ..log import database as log_database
from .index import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from llm.serialization import MessageDict

# It also asks for what an older llm's log lacks.
_LAST = """
select rowid, id, typeof(response_json), typeof(tip_message_hash)
from turns where typeof(id) = 'text' order by rowid desc limit 1
"""

_AFTER = """
select rowid, id, case when model = 'tiered' then response_json end
from turns where rowid > ? and typeof(id) = 'text' order by rowid limit ?
"""

_PARTS = """
select resolved_model, datetime_utc, response_json, tip_message_hash, parent_message_hash,
    role, messages.provider_metadata, type, text, payload
from turns join messages on hash = tip_message_hash join parts on message_hash = hash
where turns.id = ? and model = 'tiered' order by position
"""

_TOOLS = """
select name, description from turn_tools join tools on tools.id = tool_id where turn_id = ?
"""

_SCHEMA = "select content from schemas join turns on schema_id = schemas.id where turns.id = ?"

_KEY = re.compile("[0-9a-f]{64}")

# Where services say why an answer ended, and what they say when it was complete.
_REASONS = ("finish_reason", "stop_reason", "status")
_COMPLETE = {"stop", "end_turn", "stop_sequence", "completed"}

# Characters that come at once.
PIECE = 64


class Row(NamedTuple):
    """A turn of the log, with the key of the request if its answer may be given again."""

    mark: Mark
    key: str | None

    @property
    def turn_id(self) -> str:
        """The turn's id."""
        return self.mark.turn_id


@dataclass(frozen=True)
class Answer:
    """An answer that was given before.

    `model` is the one that answered and `response_json` what it recorded of its answer. `time` is
    when it was asked, aware, or None if the log does not know. `events` stream the answer, with
    the same parts as the first time.
    """

    turn_id: str
    model: str | None
    time: datetime | None
    events: tuple[StreamEvent, ...]
    response_json: Any


def last(log: sqlite3.Connection) -> Mark | None:
    """The turn that was logged last; None if there is none, or the log is of an older llm."""
    try:
        row = log.execute(_LAST).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            return None
        raise
    return row and Mark(*row[:2])


def is_there(log: sqlite3.Connection, mark: Mark) -> bool:
    """Whether that turn still stands where it stood."""
    row = log.execute("select id from turns where rowid = ?", (mark.rowid,)).fetchone()
    return row is not None and bool(row[0] == mark.turn_id)


def after(log: sqlite3.Connection, mark: Mark | None, limit: int) -> list[Row]:
    """The turns that were logged after that one, in the order in which they were logged."""
    rows = log.execute(_AFTER, (mark.rowid if mark else 0, limit)).fetchall()
    return [Row(Mark(rowid, turn_id), _key(_parsed(text))) for rowid, turn_id, text in rows]


def read(log: sqlite3.Connection, turn_id: str, key: str) -> Answer | None:
    """The turn's answer, if it is there, undamaged, complete, and answers the request."""
    from llm.logs import message_hash

    rows = log.execute(_PARTS, (turn_id,)).fetchall()
    if not rows:
        return None
    model, time, kept, tip, parent, role, metadata, *_ = rows[0]
    try:
        message = _message(role, metadata, [row[-3:] for row in rows])
        if not _can_be_repeated(message) or message_hash(message, parent) != tip:
            return None
        recorded = _resolved(log, turn_id, kept, message)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    if _key(recorded) != key:
        return None
    return Answer(turn_id, model, _time(time), _events(message.parts), recorded.get("response"))


def _resolved(log: sqlite3.Connection, turn_id: str, kept: str, message: Message) -> Any:
    """What was recorded, with what llm keeps only once back in its place."""
    from llm.logs import resolve_payload

    if '"$' not in kept:
        return json.loads(kept)
    tools = log.execute(_TOOLS, (turn_id,)).fetchall()
    schema = log.execute(_SCHEMA, (turn_id,)).fetchone()
    return resolve_payload(kept, [message], tools, schema and json.loads(schema[0]))


def _key(recorded: Any) -> str | None:
    """The key of the request, if the answer is complete and did not come from the cache itself."""
    record = recorded.get("tiered") if isinstance(recorded, dict) else None
    if not isinstance(record, dict) or record.get("cached_from") is not None:
        return None
    key = record.get("key")
    known = isinstance(key, str) and _KEY.fullmatch(key)
    return key if known and _is_complete(recorded.get("response")) else None


def _is_complete(response: Any) -> bool:
    """Whether the inner model's answer came to its end, as far as the model says."""
    if not isinstance(response, dict):
        return True
    if gemini.is_reply(response):
        return gemini.is_complete(response)
    choices = response.get("choices")
    try:
        said = choices[0] if choices else response
        reason = next((said[name] for name in _REASONS if name in said), None)
    except (LookupError, TypeError):
        return False
    return reason is None or str(reason).lower() in _COMPLETE


def _message(role: str, metadata: Any, rows: Sequence[Sequence[Any]]) -> Message:
    parts = [
        (_parsed(payload) or {}) | {"type": kind, "text": text} for kind, text, payload in rows
    ]
    message: dict[str, Any] = {"role": role, "parts": parts, "provider_metadata": _parsed(metadata)}
    return Message.from_dict(cast("MessageDict", message))


def _can_be_repeated(message: Message) -> bool:
    """Whether it is an assistant's, says something, and has nothing but text and reasoning."""
    return (
        message.role == "assistant"
        and all(isinstance(part, TextPart | ReasoningPart) for part in message.parts)
        and any(isinstance(part, TextPart) and part.text.strip() for part in message.parts)
    )


def _events(parts: Sequence[Any]) -> tuple[StreamEvent, ...]:
    return tuple(event for place, part in enumerate(parts) for event in _pieces(part, place))


def _pieces(part: TextPart | ReasoningPart, place: int) -> list[StreamEvent]:
    events = [
        StreamEvent(
            type="reasoning" if isinstance(part, ReasoningPart) else "text",
            chunk=part.text[start : start + PIECE],
            part_index=place,
            redacted=getattr(part, "redacted", False),
        )
        for start in range(0, len(part.text) or 1, PIECE)
    ]
    events[-1].provider_metadata = part.provider_metadata
    return events


def _parsed(text: Any) -> Any:
    """The JSON, or None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _time(text: Any) -> datetime | None:
    try:
        return log_database.parse(text)
    except (ValueError, TypeError):
        return None
