"""The tier of a conversation so far, and where the conversation must stay."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..config.terms import strictest
from ..paths import log_path
from .database import has_table, parse_time
from .record import Record

if TYPE_CHECKING:
    from datetime import datetime

    from llm.models import _BaseConversation

    from ..config.terms import Kept

logger = logging.getLogger("llm_tiered")

_QUERY = "select model, response_json from turns where thread_id = ? order by id desc"


class Past(NamedTuple):
    """Where the last turn of a conversation went, and why; None means unknown.

    `source` is that of the latest turn whose tier was not taken from the conversation. `kept`
    is whether any turn had to stay on this machine, or on the user's.
    """

    tier: str | None = None
    complexity: int | None = None
    source: str | None = None
    kept: Kept | None = None


UNKNOWN = Past()

# Where nobody can know whether an earlier turn had to stay on this machine, it had to.
PRIVATE = Record(local_only=True)


def last_turn(conversation: _BaseConversation | None) -> Past:
    """Return where the last turn of the conversation went."""
    return _past(records_of(conversation))


def rules_of(conversation: _BaseConversation | None) -> frozenset[str]:
    """Return the names of the rules that had a say in any turn of the conversation."""
    return frozenset([name for record in records_of(conversation) for name in record.rules])


def records_of(conversation: _BaseConversation | None) -> list[Record]:
    """Return the records of a conversation's turns, latest first.

    A conversation of this process has its responses. One that `llm -c` continues has only its
    messages: its turns are read from the log, which is opened read-only.
    """
    if conversation is None:
        return []
    if conversation.responses:
        return [
            Record.from_json(response.response_json) or Record()
            for response in reversed(conversation.responses)
        ]
    return _from_log(conversation.id) if conversation.loaded_messages else []


def last_asked(conversation: _BaseConversation | None) -> datetime | None:
    """Return when the last turn of a conversation was begun, or None if that is unknown."""
    if conversation is None:
        return None
    if conversation.responses:
        return conversation.responses[-1]._start_utcnow
    path = log_in_use()
    if not conversation.loaded_messages or not path.exists():
        return None
    query = "select datetime_utc from turns where thread_id = ? order by id desc limit 1"
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as database:
            row = database.execute(query, (conversation.id,)).fetchone()
        return parse_time(row[0])
    except (sqlite3.Error, ValueError, TypeError):
        return None


def _past(records: list[Record]) -> Past:
    """Sum up the turns of a conversation, latest first."""
    past: Past | None = None
    for record in reversed(records):
        past = past_after(past, record)
    return past or UNKNOWN


def past_after(past: Past | None, record: Record) -> Past:
    """Return where a conversation went after one more turn; it had none if `past` is None."""
    earlier = past or Past(source=record.source)
    return Past(
        record.tier,
        record.complexity,
        earlier.source if record.source == "conversation" else record.source,
        strictest(record.kept, earlier.kept),
    )


def _from_log(thread_id: str) -> list[Record]:
    path = log_in_use()
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as database:
            if not has_table(database, "turns"):
                return []
            return [record_of_turn(*row) for row in database.execute(_QUERY, (thread_id,))]
    except sqlite3.Error as error:
        logger.warning(
            "%s can't be read (%s), so it is unknown whether this conversation is private: "
            "it stays on this machine",
            path,
            error,
        )
        return [PRIVATE]


def record_of_turn(model: str, response_json: Any) -> Record:
    """Return the record of a logged turn; that of another model's turn is empty."""
    try:
        record = Record.from_json(json.loads(response_json))
    except (ValueError, TypeError):
        record = None
    return record or (PRIVATE if model == "tiered" else Record())


def log_in_use() -> Path:
    """Return the path of the log: that of llm's `--database` option, or the usual one."""
    context = click.get_current_context(silent=True)
    option = context.params.get("database") if context else None
    return Path(option or log_path())
