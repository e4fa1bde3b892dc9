"""The tier of a conversation so far, and whether the conversation must stay on this machine."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..paths import log_path
from .record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llm.models import _BaseConversation

_TURNS = "select response_json from turns where thread_id = ? order by id desc"


class Past(NamedTuple):
    """Where the last turn of a conversation went, and why; None means unknown.

    `source` is that of the latest turn whose tier was not taken from the conversation. `kept_local`
    is whether any turn had to stay on this machine.
    """

    tier: str | None = None
    complexity: int | None = None
    source: str | None = None
    kept_local: bool = False


UNKNOWN = Past()


def last_turn(conversation: _BaseConversation | None) -> Past:
    """Return where the last turn of the conversation went.

    A conversation of this process has its responses. One that `llm -c` continues has only its
    messages: its turns are read from the log, which is opened read-only.
    """
    if conversation is None:
        return UNKNOWN
    if conversation.responses:
        return _past(response.response_json for response in reversed(conversation.responses))
    if conversation.loaded_messages:
        return _from_log(conversation.id)
    return UNKNOWN


def _past(turns: Iterable[Any]) -> Past:
    """Sum up the turns of a conversation, given the response_json of each, latest first."""
    records = [Record.from_json(response_json) or Record() for response_json in turns]
    if not records:
        return UNKNOWN
    last = records[0]
    decided = next((record for record in records if record.source != "conversation"), last)
    kept_local = any(record.local_only for record in records)
    return Past(last.tier, last.complexity, decided.source, kept_local)


def _from_log(thread_id: str) -> Past:
    uri = _log_path().absolute().as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            rows = database.execute(_TURNS, (thread_id,))
            return _past(_parsed(text) for (text,) in rows)
    except sqlite3.Error:
        return UNKNOWN


def _parsed(text: Any) -> Any:
    """Parse the JSON of a row; None for a damaged row, which must not hide the others."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _log_path() -> Path:
    """Return the path of the log: that of llm's `--database` option, or the usual one."""
    context = click.get_current_context(silent=True)
    option = context.params.get("database") if context else None
    return Path(option or log_path())
