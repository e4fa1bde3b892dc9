"""Answers of `tiered` as llm's log has them: what was asked, who was tried, who answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RequestError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_TURNS = """
select id, thread_id, parent_message_hash, resolved_model, options_json, schema_id is not null,
    datetime_utc, response_json, (select count(*) from turn_tools where turn_id = turns.id)
from turns where model = 'tiered' {where} order by id desc limit :number
"""

# The messages of a turn from its last one back to the first, part by part.
_PARTS = """
with recursive chain(hash, role, parent_hash, depth) as (
    select hash, role, parent_hash, 0 from messages where hash = :tip
    union all
    select messages.hash, messages.role, messages.parent_hash, depth + 1
    from chain join messages on messages.hash = chain.parent_hash
)
select depth, role, type, text, payload
from chain join parts on parts.message_hash = chain.hash order by depth, position
"""


@dataclass(frozen=True)
class Asked:
    """What a turn was asked: the user's last words, and what came with them.

    `characters` are those of the whole conversation, the system prompt among them.
    """

    prompt: str
    characters: int
    attachments: int
    tools: int
    schema: bool


@dataclass(frozen=True)
class Answer:
    """A turn of `tiered`. `tier` is the one that answered, None where the log does not know.

    `checked` says that a local answer was looked at before it was shown.
    """

    id: str
    thread: str
    when: str
    model: str | None
    tier: str | None
    attempts: tuple[dict[str, Any], ...]
    checked: bool
    asked: Asked


def latest(database: sqlite3.Connection, number: int) -> Iterator[Answer]:
    """The last so many answers, the latest first. Damaged rows are left out."""
    return _read(database, "", {"number": number})


def by_ids(database: sqlite3.Connection, ids: list[str]) -> Iterator[Answer]:
    """The answers with these ids, as far as the log has them, the latest first."""
    where = "and id in (select value from json_each(:ids))"
    return _read(database, where, {"ids": json.dumps(ids), "number": -1})


def find(database: sqlite3.Connection, start: str | None) -> Answer:
    """The answer whose id begins like this, or the last one.

    Raises RequestError where there is none, or more than one, or it is another model's.
    """
    if not _has_turns(database):
        raise RequestError("the log has no answer of tiered yet", fix="llm -m tiered 'Hello'")
    if start is None:
        # The last one that is not damaged.
        answer = next(latest(database, -1), None)
        if answer is None:
            raise RequestError("the log has no answer of tiered yet", fix="llm -m tiered 'Hello'")
        return answer
    query = "select id, model from turns where substr(id, 1, length(:start)) = :start limit 3"
    found = database.execute(query, {"start": start.lower()}).fetchall()
    if not found:
        raise RequestError(f"the log has no answer with the id {start}", fix="llm logs -m tiered")
    if len(found) > 1:
        raise RequestError(f"more than one id begins with {start}", fix="give more of it")
    [(id_, model)] = found
    if model != "tiered":
        raise RequestError(f"{id_} was answered by {model} itself, and not by way of tiered")
    answer = next(by_ids(database, [id_]), None)
    if answer is None:
        raise RequestError(f"the log's row {id_} is damaged")
    return answer


def _has_turns(database: sqlite3.Connection) -> bool:
    return bool(database.execute("select 1 from pragma_table_info('turns')").fetchone())


def _read(database: sqlite3.Connection, where: str, values: dict[str, Any]) -> Iterator[Answer]:
    if not _has_turns(database):
        return
    rows = database.execute(_TURNS.format(where=where), values)
    for id_, thread, tip, model, options, schema, when, response, tools in rows:
        try:
            record = json.loads(response)["tiered"]
            given = json.loads(options or "{}")
            attempts = tuple(attempt for attempt in record["attempts"] if attempt["tier"])
            asked = _asked(database, tip, tools, schema=bool(schema))
        except (ValueError, TypeError, LookupError, AttributeError):
            continue
        tiers = [attempt["tier"] for attempt in attempts if attempt.get("outcome") == "ok"]
        yield Answer(
            id=id_,
            thread=thread or id_,
            when=when or "",
            model=model,
            tier=tiers[-1] if tiers else None,
            attempts=attempts,
            checked=bool(record.get("escalates", given.get("escalate")))
            and not record.get("cached_from"),
            asked=asked,
        )


def _asked(database: sqlite3.Connection, tip: str | None, tools: int, *, schema: bool) -> Asked:
    last: int | None = None
    said: list[str] = []
    characters = attachments = 0
    for depth, role, kind, text, payload in database.execute(_PARTS, {"tip": tip}):
        if role == "user" and last is None:
            last = depth
        if kind == "attachment":
            attachments += depth == last
        elif kind in ("text", "tool_result"):
            whole = text if text is not None else _resolved(database, json.loads(payload))
            characters += len(whole)
            if kind == "text" and depth == last:
                said.append(whole)
    return Asked("\n".join(said), characters, attachments, tools, schema)


def _resolved(database: sqlite3.Connection, payload: dict[str, Any]) -> str:
    """What a tool gave back, or a text with what it has from fragments."""
    pieces = payload.get("text_ref")
    if pieces is None:
        return str(payload.get("output") or payload.get("text") or "")
    return "".join(
        piece["literal"] if "literal" in piece else _fragment(database, piece["fragment"])
        for piece in pieces
    )


def _fragment(database: sqlite3.Connection, number: int) -> str:
    row = database.execute("select content from fragments where id = ?", (number,)).fetchone()
    return row[0] if row else ""
