"""The messages of a turn, from the tables in which llm keeps them.

llm keeps each message once, under a hash, with the hash of the message before it. A turn names the
last message of its prompt (`parent_message_hash`) and of its answer (`tip_message_hash`).
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..wording import visible
from .database import has_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TABLES = ("messages", "parts", "fragments", "attachments")

# The most messages that are read of a conversation: in a damaged log the chain may be a circle.
_LONGEST_CHAIN = 5_000

_CHAIN = """
with recursive chain(hash, parent_hash, role, depth) as (
  select hash, parent_hash, role, 1 from messages where hash = :last
  union all
  select messages.hash, messages.parent_hash, messages.role, depth + 1
  from chain join messages on messages.hash = chain.parent_hash where depth < :longest
)
select hash, role from chain order by depth
"""

_PARTS = """
select message_hash, type, tool_name, text, payload from parts
where message_hash in (select value from json_each(?)) order by message_hash, position
"""

_MISSING_FRAGMENT = "(a fragment that is no longer in the log)"


class MessageRow(NamedTuple):
    """A row of the table `messages`."""

    hash: str
    role: str


class PartRow(NamedTuple):
    """A row of the table `parts`; `text` is None where the payload has the content."""

    kind: str
    tool: str | None
    text: str | None
    payload: str | None

    @property
    def content(self) -> Any:
        """The parsed payload. Raises ValueError if it is not JSON."""
        return json.loads(self.payload or "{}")


@dataclass(frozen=True)
class ShownPart:
    """A part of a message as text to show; `attachment` is the id of an attachment."""

    kind: str
    title: str
    text: str
    attachment: str | None = None


@dataclass(frozen=True)
class ShownMessage:
    """A message as text to show."""

    role: str
    parts: list[ShownPart]


class ShownTurn(NamedTuple):
    """The messages of a turn: its new ones, the number of earlier ones, and the answer."""

    prompt: list[ShownMessage]
    earlier: int
    answer: list[ShownMessage]


def message_chain(database: sqlite3.Connection, last: str | None) -> list[MessageRow]:
    """Return the message with the hash `last` and all messages before it, first to last."""
    rows = database.execute(_CHAIN, {"last": last, "longest": _LONGEST_CHAIN})
    # A dictionary keeps each message once, where the chain is a circle.
    return [MessageRow(hash_, str(role)) for hash_, role in reversed(dict(rows).items())]


def message_parts(database: sqlite3.Connection, hashes: Iterable[str]) -> dict[str, list[PartRow]]:
    """Return the parts of the messages with these hashes, in order; a message may have none."""
    by_message: dict[str, list[PartRow]] = {hash_: [] for hash_ in hashes}
    for hash_, *columns in database.execute(_PARTS, (json.dumps(list(by_message)),)):
        by_message[hash_].append(PartRow(*columns))
    return by_message


def text_of(database: sqlite3.Connection, part: PartRow, missing: str | None = "") -> str:
    """Return the text of a part, with the texts that llm keeps as fragments put in.

    `missing` stands for a fragment that is gone; if it is None, that is an error. Raises
    ValueError, LookupError or TypeError if the row is damaged.
    """
    if part.text is not None:
        return part.text
    return "".join(
        piece["literal"] if "literal" in piece else _fragment(database, piece["fragment"], missing)
        for piece in part.content["text_ref"]
    )


def shown_turn(database: sqlite3.Connection, table: str, id_: str) -> ShownTurn:
    """Return the messages of the turn with this id, in one of llm's two tables of requests."""
    if table == "responses":
        return _older_turn(database, id_)
    if not all(has_table(database, name) for name in TABLES):
        return ShownTurn([], 0, [])
    parent, tip = database.execute(
        "select parent_message_hash, tip_message_hash from turns where id = ?", (id_,)
    ).fetchone()
    messages = message_chain(database, tip or parent)
    hashes = [message.hash for message in messages]
    end = hashes.index(parent) + 1 if parent in hashes else 0
    start = end
    while start and messages[start - 1].role in ("user", "tool"):
        start -= 1
    system = _in_force(messages[:start])
    return ShownTurn(
        _shown(database, system + messages[start:end]),
        start - len(system),
        _shown(database, messages[end:]),
    )


def _in_force(messages: list[MessageRow]) -> list[MessageRow]:
    """Return the newest system prompt: the last system messages that follow each other."""
    end = len(messages)
    while end and messages[end - 1].role != "system":
        end -= 1
    start = end
    while start and messages[start - 1].role == "system":
        start -= 1
    return messages[start:end]


def whole_response(database: sqlite3.Connection, id_: str, response_json: Any) -> Any:
    """Return the parsed response_json of a turn, with the texts that llm keeps only once put in.

    Where they are gone, or the log is that of another version of llm, it is returned as it is.
    """
    import sqlite_utils
    from llm.logs import LogStore

    try:
        if '{"$' in json.dumps(response_json):
            return LogStore(sqlite_utils.Database(database)).turn_response_json(id_)
    except (ValueError, LookupError, TypeError, RecursionError, sqlite3.Error):
        pass
    return response_json


def _older_turn(database: sqlite3.Connection, id_: str) -> ShownTurn:
    """Return the messages of a request of an older llm, which kept the texts in its own row."""
    system, prompt, answer = database.execute(
        "select system, prompt, response from responses where id = ?", (id_,)
    ).fetchone()

    def messages(role: str, text: Any) -> list[ShownMessage]:
        parts = [ShownPart("text", "", visible(str(text)))]
        return [ShownMessage(role, parts)] if text else []

    prompts = messages("system", system) + messages("user", prompt)
    return ShownTurn(prompts, 0, messages("assistant", answer))


def _shown(database: sqlite3.Connection, messages: Sequence[MessageRow]) -> list[ShownMessage]:
    by_message = message_parts(database, [message.hash for message in messages])
    return [
        ShownMessage(message.role, [_shown_part(database, row) for row in by_message[message.hash]])
        for message in messages
    ]


def _shown_part(database: sqlite3.Connection, row: PartRow) -> ShownPart:
    tool = visible(str(row.tool or ""))
    try:
        if row.kind == "attachment":
            return ShownPart(row.kind, "attachment", "", str(row.content["attachment"]["id"]))
        if row.kind == "tool_call":
            arguments = json.dumps(row.content.get("arguments"), indent=2, ensure_ascii=False)
            return ShownPart(row.kind, f"calls {tool}", visible(arguments))
        if row.kind == "tool_result":
            output = str(row.content.get("output", ""))
            return ShownPart(row.kind, f"result of {tool}", visible(output))
        title = "reasoning" if row.kind == "reasoning" else ""
        return ShownPart(row.kind, title, visible(text_of(database, row, _MISSING_FRAGMENT)))
    except (ValueError, TypeError, LookupError, AttributeError):
        return ShownPart(row.kind, "damaged", visible(str(row.payload)))


def _fragment(database: sqlite3.Connection, id_: Any, missing: str | None) -> str:
    row = database.execute("select content from fragments where id = ?", (id_,)).fetchone()
    if row is None and missing is None:
        raise LookupError(f"there is no fragment {id_}")
    return str(row[0]) if row else missing or ""
