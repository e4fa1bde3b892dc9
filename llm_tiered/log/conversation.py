"""Which tier a conversation is with, as far as the log knows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import llm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llm.models import _BaseConversation

_TURNS = "select response_json from turns where thread_id = ? order by id desc"


class Past(NamedTuple):
    """Where the last turn of a conversation went, and why; None for what is not known.

    `source` is that of the last turn that was not decided by the conversation itself.
    """

    tier: str | None = None
    complexity: int | None = None
    source: str | None = None


UNKNOWN = Past()


def last_turn(conversation: _BaseConversation | None) -> Past:
    """Where the conversation's last turn went.

    A conversation of this process knows it itself. One that `llm -c` took up again has only
    its messages: its turns are looked up in the log, read-only.
    """
    if conversation is None:
        return UNKNOWN
    if conversation.responses:
        return _last(response.response_json for response in reversed(conversation.responses))
    if conversation.loaded_messages:
        return _from_log(conversation.id)
    return UNKNOWN


def _last(turns: Iterable[Any]) -> Past:
    """What the turns say, the last one first."""
    last: Past | None = None
    for response_json in turns:
        turn = _of(response_json)
        last = last or turn
        if turn.source != "conversation":
            return last._replace(source=turn.source)
    return last or UNKNOWN


def _of(response_json: Any) -> Past:
    record = response_json.get("tiered") if isinstance(response_json, dict) else None
    if not isinstance(record, dict):
        return UNKNOWN
    tier, complexity, source = (record.get(name) for name in Past._fields)
    return Past(
        tier if isinstance(tier, str) else None,
        complexity if isinstance(complexity, int) else None,
        source if isinstance(source, str) else None,
    )


def _from_log(thread_id: str) -> Past:
    uri = _database().absolute().as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            rows = database.execute(_TURNS, (thread_id,))
            return _last(json.loads(text) if text else None for (text,) in rows)
    except (sqlite3.Error, ValueError):
        return UNKNOWN


def _database() -> Path:
    """The log: the one that llm's command line was given, or the usual one."""
    context = click.get_current_context(silent=True)
    given = context.params.get("database") if context else None
    return Path(given or llm.user_dir() / "logs.db")
