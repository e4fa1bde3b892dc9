"""Which tier a conversation is with, and whether it may leave, as far as the log knows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..paths import log_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llm.models import _BaseConversation

_TURNS = "select response_json from turns where thread_id = ? order by id desc"


class Past(NamedTuple):
    """Where the last turn of a conversation went, and why; None for what is not known.

    `source` is that of the last turn that was not decided by the conversation itself. `kept_local`
    says that some turn of it was not to leave this machine.
    """

    tier: str | None = None
    complexity: int | None = None
    source: str | None = None
    kept_local: bool = False


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
    past = [_of(response_json) for response_json in turns]
    if not past:
        return UNKNOWN
    decided = next((turn for turn in past if turn.source != "conversation"), past[0])
    kept_local = any(turn.kept_local for turn in past)
    return past[0]._replace(source=decided.source, kept_local=kept_local)


def _of(response_json: Any) -> Past:
    record = response_json.get("tiered") if isinstance(response_json, dict) else None
    if not isinstance(record, dict):
        return UNKNOWN
    tier, complexity, source = (record.get(name) for name in ("tier", "complexity", "source"))
    return Past(
        tier if isinstance(tier, str) else None,
        complexity if isinstance(complexity, int) else None,
        source if isinstance(source, str) else None,
        kept_local=record.get("local_only") is True,
    )


def _from_log(thread_id: str) -> Past:
    uri = _database().absolute().as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            rows = database.execute(_TURNS, (thread_id,))
            return _last(_parsed(text) for (text,) in rows)
    except sqlite3.Error:
        return UNKNOWN


def _parsed(text: Any) -> Any:
    """What a row holds; a damaged one hides none of the others."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _database() -> Path:
    """The log: the one that llm's command line was given, or the usual one."""
    context = click.get_current_context(silent=True)
    given = context.params.get("database") if context else None
    return Path(given or log_path())
