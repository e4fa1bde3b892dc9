"""One turn of llm's log, with its messages as llm's own objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..paths import log_path
from .database import has_table, parse_time, reading
from .messages import TABLES

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    import llm

_TURN = """
select coalesce(resolved_model, model), datetime_utc, input_tokens, output_tokens, token_details,
    response_json, parent_message_hash, tip_message_hash
from turns where id = ?
"""


@dataclass(frozen=True)
class StoredTurn:
    """A turn: the messages up to its prompt, and those of its answer. `model` is who answered."""

    id: str
    model: str
    time: datetime
    input_tokens: int | None
    output_tokens: int | None
    token_details: Any
    response_json: Any
    before: list[llm.Message]
    answer: list[llm.Message]


def stored_turn(id_: str) -> StoredTurn | None:
    """Return the turn with this id, or None if the log has none, or only a damaged one.

    Raises TieredError if the log can't be read.
    """
    if not log_path().exists():
        return None
    with reading(log_path()) as database:
        if not all(has_table(database, name) for name in (*TABLES, "turns")):
            return None
        return _read(database, id_)


def _read(database: sqlite3.Connection, id_: str) -> StoredTurn | None:
    import sqlite_utils
    from llm.logs import LogStore

    row = database.execute(_TURN, (id_,)).fetchone()
    if row is None:
        return None
    model, time, prompt, completion, details, response_json, parent, tip = row
    store = LogStore(sqlite_utils.Database(database))
    try:
        before = store.load_chain(parent)
        answer = store.load_chain(tip)[len(before) :]
        return StoredTurn(
            id=id_,
            model=str(model),
            time=parse_time(time),
            input_tokens=prompt,
            output_tokens=completion,
            token_details=json.loads(details or "null"),
            response_json=json.loads(response_json or "null"),
            before=before,
            answer=answer,
        )
    except (LookupError, ValueError, TypeError, AttributeError):
        return None
