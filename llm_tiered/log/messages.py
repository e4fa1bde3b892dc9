"""The messages of one request, out of the tables in which llm keeps them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..wording import visible

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

TABLES = ("messages", "parts", "fragments", "attachments")

# Messages of a conversation that are followed back: a damaged log may turn in a circle.
_DEEPEST = 5_000

_CHAIN = """
with recursive chain(hash, parent_hash, role, depth) as (
  select hash, parent_hash, role, 0 from messages where hash = :tip
  union all
  select messages.hash, messages.parent_hash, messages.role, depth + 1
  from chain join messages on messages.hash = chain.parent_hash where depth < :deepest
)
select hash, role from chain order by depth desc
"""


@dataclass(frozen=True)
class Part:
    """Text, or what else a message can hold. `attachment` is the id of one."""

    kind: str
    title: str
    text: str
    attachment: str | None = None


@dataclass(frozen=True)
class Message:
    """Who said it, and what."""

    role: str
    parts: list[Part]


def of(
    database: sqlite3.Connection, table: str, id_: str
) -> tuple[list[Message], int, list[Message]]:
    """What was new in a request, how many messages came before, and what was answered."""
    if table == "responses":
        return _of_older(database, id_)
    if not all(there(database, name) for name in TABLES):
        return [], 0, []
    parent, tip = database.execute(
        "select parent_message_hash, tip_message_hash from turns where id = ?", (id_,)
    ).fetchone()
    chain = database.execute(_CHAIN, {"tip": tip or parent, "deepest": _DEEPEST}).fetchall()
    hashes = [hash_ for hash_, _ in chain]
    until = hashes.index(parent) + 1 if parent in hashes else 0
    first = until
    while first and chain[first - 1][1] in ("user", "tool"):
        first -= 1
    asked = _read(database, chain[first:until])
    system = _read(database, chain[:1]) if first and chain[0][1] == "system" else []
    return system + asked, first - len(system), _read(database, chain[until:])


def there(database: sqlite3.Connection, table: str) -> bool:
    """Whether the log has this table: an older llm's has fewer."""
    query = "select 1 from sqlite_master where type = 'table' and name = ?"
    return database.execute(query, (table,)).fetchone() is not None


def _of_older(database: sqlite3.Connection, id_: str) -> tuple[list[Message], int, list[Message]]:
    """Those of an older llm, which kept prompt and answer with the request."""
    system, prompt, answer = database.execute(
        "select system, prompt, response from responses where id = ?", (id_,)
    ).fetchone()
    texts = [("system", system), ("user", prompt), ("assistant", answer)]
    *asked, answered = (
        [Message(role, [Part("text", "", visible(str(text)))])] if text else []
        for role, text in texts
    )
    return [message for some in asked for message in some], 0, answered


def _read(database: sqlite3.Connection, chain: Iterable[tuple[str, str]]) -> list[Message]:
    return [Message(str(role), _parts(database, hash_)) for hash_, role in chain]


def _parts(database: sqlite3.Connection, hash_: str) -> list[Part]:
    rows = database.execute(
        "select type, tool_name, text, payload from parts where message_hash = ? order by position",
        (hash_,),
    ).fetchall()
    return [_part(database, *row) for row in rows]


def _part(
    database: sqlite3.Connection,
    kind: str,
    tool: str | None,
    text: str | None,
    payload_json: str | None,
) -> Part:
    try:
        payload: Any = json.loads(payload_json or "{}")
        name = visible(str(tool or ""))
        if kind == "attachment":
            return Part(kind, "attachment", "", str(payload["attachment"]["id"]))
        if kind == "tool_call":
            return Part(kind, f"calls {name}", visible(_pretty(payload.get("arguments"))))
        if kind == "tool_result":
            return Part(kind, f"{name} gave", visible(str(payload.get("output", ""))))
        title = "thinks" if kind == "reasoning" else ""
        said = text if text is not None else _with_fragments(database, payload["text_ref"])
        return Part(kind, title, visible(said))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Part(kind, "damaged", visible(str(payload_json)))


def _with_fragments(database: sqlite3.Connection, pieces: list[dict[str, Any]]) -> str:
    """A text of which some pieces are kept once for many messages."""
    return "".join(
        piece["literal"] if "literal" in piece else _fragment(database, piece["fragment"])
        for piece in pieces
    )


def _fragment(database: sqlite3.Connection, id_: Any) -> str:
    row = database.execute("select content from fragments where id = ?", (id_,)).fetchone()
    return str(row[0]) if row else "(a fragment that is no longer in the log)"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
