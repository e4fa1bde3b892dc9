"""Answers of `tiered` in llm's log: the prompt, the models tried, and which one answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from .database import has_table
from .messages import message_chain, message_parts, text_of
from .record import Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from .record import Attempt

_TURNS = """
select id, thread_id, parent_message_hash, resolved_model, options_json, schema_id is not null,
    datetime_utc, response_json, (select count(*) from turn_tools where turn_id = turns.id)
from turns where model = 'tiered' {where} order by id desc limit :number
"""


@dataclass(frozen=True)
class LoggedPrompt:
    """The prompt of a turn: the text of the user's last message, and what came with it.

    `characters` is the length of the whole conversation, system prompt included. `attachments`
    and `tools` are numbers, `schema` is whether there was one. `in_tool_loop` is whether results of
    tools came after the user's last message.
    """

    text: str
    characters: int
    attachments: int
    tools: int
    schema: bool
    in_tool_loop: bool = False


@dataclass(frozen=True)
class LoggedAnswer:
    """An answer of `tiered`. `tier` is the one that gave it, or None if the log does not say.

    `checked` is whether a local answer was checked before it was shown, `cached` whether it is from
    the cache. `source` is what decided the tier, `asked` the hash of the conversation up to
    the answer.
    """

    id: str
    thread: str
    when: str
    model: str | None
    tier: str | None
    attempts: tuple[Attempt, ...]
    checked: bool
    prompt: LoggedPrompt
    source: str | None = None
    asked: str | None = None
    cached: bool = False


def latest(database: sqlite3.Connection, number: int) -> Iterator[LoggedAnswer]:
    """Yield the latest answers, newest first; all of them if `number` is -1.

    Damaged rows are left out.
    """
    return _read(database, "", {"number": number})


def by_ids(database: sqlite3.Connection, ids: list[str]) -> Iterator[LoggedAnswer]:
    """Yield the answers with these ids that are in the log, newest first."""
    where = "and id in (select value from json_each(:ids))"
    return _read(database, where, {"ids": json.dumps(ids), "number": -1})


def find(database: sqlite3.Connection, start: str | None) -> LoggedAnswer:
    """Return the answer whose id begins with `start`, or the latest one without it.

    Raises RequestError if there is no such answer, or more than one, or if another model gave it.
    """
    if start is None or not has_table(database, "turns"):
        # The latest one that is not damaged.
        answer = next(latest(database, -1), None)
        if answer is None:
            raise RequestError("the log has no answer from tiered yet", fix="llm -m tiered 'Hello'")
        return answer
    query = "select id, model from turns where substr(id, 1, length(:start)) = :start limit 3"
    rows = database.execute(query, {"start": start.lower()}).fetchall()
    if not rows:
        raise RequestError(f"the log has no answer with the id {start}", fix="llm logs -m tiered")
    if len(rows) > 1:
        raise RequestError(
            f"more than one id begins with {start}", fix="give more characters of the id"
        )
    [(id_, model)] = rows
    if model != "tiered":
        raise RequestError(f"{id_} was answered by {model} directly, not through tiered")
    answer = next(by_ids(database, [id_]), None)
    if answer is None:
        raise RequestError(f"the row {id_} of the log is damaged")
    return answer


def _read(
    database: sqlite3.Connection, where: str, values: dict[str, Any]
) -> Iterator[LoggedAnswer]:
    if not has_table(database, "turns"):
        return
    rows = database.execute(_TURNS.format(where=where), values)
    for id_, thread, last_message, model, options_json, schema, when, response_json, tools in rows:
        try:
            record = Record.from_json(json.loads(response_json))
            options = json.loads(options_json or "{}")
            prompt = _prompt(database, last_message, tools, schema=bool(schema))
            asks_for_check = options.get("escalate")
        except (ValueError, TypeError, LookupError, AttributeError):
            continue
        if record is None or not record.attempts:
            continue
        # Early versions recorded it only among the options.
        escalates = asks_for_check if record.escalates is None else record.escalates
        yield LoggedAnswer(
            id=id_,
            thread=thread or id_,
            when=when or "",
            model=model,
            tier=record.answered_by,
            attempts=record.attempts,
            checked=bool(escalates) and not record.cached_from,
            prompt=prompt,
            source=record.source,
            asked=last_message,
            cached=record.cached_from is not None,
        )


def _prompt(
    database: sqlite3.Connection, last_message: str | None, tools: int, *, schema: bool
) -> LoggedPrompt:
    messages = message_chain(database, last_message)
    by_message = message_parts(database, [message.hash for message in messages])
    users = (message.hash for message in reversed(messages) if message.role == "user")
    last_of_user = next((hash_ for hash_ in users if by_message[hash_]), None)
    texts: list[str] = []
    characters = attachments = 0
    for hash_, rows in by_message.items():
        for part in rows:
            if part.kind == "attachment":
                attachments += hash_ == last_of_user
            elif part.kind == "tool_result":
                characters += len(str(part.content.get("output") or ""))
            elif part.kind == "text":
                text = text_of(database, part)
                characters += len(text)
                if hash_ == last_of_user:
                    texts.append(text)
    in_tool_loop = bool(messages) and messages[-1].role == "tool"
    return LoggedPrompt("\n".join(texts), characters, attachments, tools, schema, in_tool_loop)
