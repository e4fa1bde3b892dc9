"""Which tier a conversation is with, as far as the log knows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import llm

if TYPE_CHECKING:
    from llm.models import _BaseConversation

_LAST_TURN = "select response_json from turns where thread_id = ? order by id desc limit 1"


def last_tier(conversation: _BaseConversation | None) -> tuple[str | None, int | None]:
    """Tier and complexity of the conversation's last turn; None for what is not known.

    A conversation of this process knows them itself. One that `llm -c` took up again has only
    its messages: its turns are looked up in the log, read-only.
    """
    if conversation is None:
        return None, None
    if conversation.responses:
        return _of(conversation.responses[-1].response_json)
    if conversation.loaded_messages:
        return _from_log(conversation.id)
    return None, None


def _of(response_json: Any) -> tuple[str | None, int | None]:
    record = response_json.get("tiered") if isinstance(response_json, dict) else None
    if not isinstance(record, dict):
        return None, None
    tier, complexity = record.get("tier"), record.get("complexity")
    return (
        tier if isinstance(tier, str) else None,
        complexity if isinstance(complexity, int) else None,
    )


def _from_log(thread_id: str) -> tuple[str | None, int | None]:
    uri = _database().absolute().as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            row = database.execute(_LAST_TURN, (thread_id,)).fetchone()
        return _of(json.loads(row[0])) if row and row[0] else (None, None)
    except (sqlite3.Error, ValueError):
        return None, None


def _database() -> Path:
    """The log: the one that llm's command line was given, or the usual one."""
    context = click.get_current_context(silent=True)
    given = context.params.get("database") if context else None
    return Path(given or llm.user_dir() / "logs.db")
