"""Which conversation of the log the messages of a program continue.

A program that keeps the conversation itself sends all its messages again, and no id. Its own
messages have the hashes under which llm keeps them. An answer may not: what the program got of it
lacks the thoughts and the service's own data, so that answers are recognised by what they show.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from llm.logs import message_hash
from llm.parts import TextPart, ToolCallPart

from ..config.terms import strictest
from ..paths import log_path
from . import private
from .conversation import last_turn, record_of_turn
from .database import has_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import llm
    from llm.models import _BaseConversation

    from ..config.terms import Kept
    from .conversation import Past
    from .messages import PartRow

logger = logging.getLogger("llm_tiered")

# The most messages of the log that are taken for the same answer.
_MOST = 20

_TURNS = """
select tip_message_hash, thread_id, model, response_json from turns
where tip_message_hash in (select value from json_each(?)) order by id
"""


class KnownThread(NamedTuple):
    """The thread that messages continue, or None, and where its turns had to stay, if anywhere.

    The turns count up to the first answer that the log does not have in this place.
    """

    thread_id: str | None = None
    kept: Kept | None = None


def past_of(conversation: _BaseConversation | None, messages: Sequence[llm.Message]) -> Past:
    """Return where the turns before a prompt went; its messages may be those of a private one."""
    past = last_turn(conversation)
    if conversation and (conversation.responses or conversation.loaded_messages):
        return past
    kept = strictest(private.PRIVATE.kept(messages), find_thread(messages).kept)
    return past._replace(kept=kept)


def find_thread(messages: Sequence[llm.Message]) -> KnownThread:
    """Return the thread that ends with these messages, apart from what follows the last answer."""
    end = max((at for at, each in enumerate(messages, 1) if each.role == "assistant"), default=0)
    path = log_path()
    if not end or not path.exists():
        return KnownThread()
    from .messages import TABLES

    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as database:
            if not all(has_table(database, name) for name in (*TABLES, "turns")):
                return KnownThread()
            return _find(database, messages[:end])
    except sqlite3.Error as error:
        logger.warning(
            "%s can't be read (%s), so it is unknown whether this conversation is private: "
            "it stays on this machine",
            path,
            error,
        )
        return KnownThread(kept="here")


def _find(database: sqlite3.Connection, messages: Sequence[llm.Message]) -> KnownThread:
    places: list[set[str]] = []
    here: set[str | None] = {None}
    for message in messages:
        found = _stored(database, {message_hash(message, hash_) for hash_ in here})
        if message.role == "assistant":
            found |= _same_answers(database, here, message)
            places.append(found)
        if not found:
            break
        here = set(sorted(found)[:_MOST])
    hashes = sorted(set().union(*places))
    if not hashes:
        return KnownThread()
    rows = list(database.execute(_TURNS, (json.dumps(hashes),)))
    kept = strictest(*(record_of_turn(model, reply).kept for _, _, model, reply in rows))
    last = places[-1] if len(places) == _answers(messages) else set()
    threads = [thread for tip, thread, _, _ in rows if tip in last]
    return KnownThread(threads[-1] if threads else None, kept)


def _answers(messages: Sequence[llm.Message]) -> int:
    return sum(message.role == "assistant" for message in messages)


def _stored(database: sqlite3.Connection, hashes: set[str]) -> set[str]:
    query = "select hash from messages where hash in (select value from json_each(?))"
    return {hash_ for (hash_,) in database.execute(query, (json.dumps(sorted(hashes)),))}


def _same_answers(
    database: sqlite3.Connection, parents: set[str | None], message: llm.Message
) -> set[str]:
    """The answers after one of these messages that show the same as this one."""
    from .messages import message_parts

    query = """
        select hash from messages where role = 'assistant'
        and parent_hash in (select value from json_each(?)) limit 1000
    """
    known = json.dumps([parent for parent in parents if parent])
    rows = message_parts(database, [hash_ for (hash_,) in database.execute(query, (known,))])
    shown = _shown(message)
    return {hash_ for hash_, parts in rows.items() if _shown_by_rows(database, parts) == shown}


def _shown(message: llm.Message) -> tuple[str, list[Any]]:
    """The text of an answer and its tool calls."""
    text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    calls = [[c.name, c.arguments] for c in message.parts if isinstance(c, ToolCallPart)]
    return text.strip(), calls


def _shown_by_rows(
    database: sqlite3.Connection, parts: Sequence[PartRow]
) -> tuple[str, list[Any]] | None:
    """The same of a stored answer; None if it is damaged."""
    from .messages import text_of

    try:
        text = "".join(text_of(database, part) for part in parts if part.kind == "text")
        calls = [
            [part.tool, part.content.get("arguments")]
            for part in parts
            if part.kind == "tool_call" and not part.content.get("server_executed")
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return text.strip(), calls
