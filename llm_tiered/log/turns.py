"""The turns of llm's log with their prompts, one conversation after the other, a few at a time.

The log is read in short steps, so that other processes can write to it meanwhile.
"""

from __future__ import annotations

import json
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import llm
from llm.parts import AttachmentPart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart

from .database import has_table
from .messages import TABLES, message_parts, text_of
from .record import Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from llm.parts import Part

    from .messages import PartRow

# Turns that are read at a time, and the characters of their messages up to which all are.
CHUNK = 50
MOST_CHARACTERS = 4_000_000

# A row whose time is damaged belongs to no period.
_HAS_TIME = "(date(datetime_utc) is not null and datetime_utc like '____-__-__%')"

# All turns of the conversations that have a turn of `tiered` in the period, up to its end.
_IDS = f"""
select rowid, model = 'tiered' and {{within}} and {_HAS_TIME} from turns
where datetime_utc < :until and coalesce(thread_id, id) in (
    select coalesce(thread_id, id) from turns
    where model = 'tiered' and {{within}} and {_HAS_TIME}
)
order by coalesce(thread_id, id), id
"""  # noqa: S608 - our own words

_TURNS = """
select turns.rowid, turns.id, coalesce(thread_id, turns.id), model, resolved_model,
    parent_message_hash, options_json, {schema}, {tools}, {fragments}, datetime_utc, input_tokens,
    output_tokens, token_details, duration_ms, case when model = 'tiered' then response_json end
from json_each(?) as wanted join turns on turns.rowid = wanted.value order by wanted.key
"""

# What comes with a prompt, by the table that has it; a log that lacks the table has nothing of it.
_WITH_IT = {
    "schema": ("schemas", "(select content from schemas where schemas.id = schema_id)"),
    "tools": (
        "turn_tools",
        "(select json_group_array(tools.name) from turn_tools join tools on tools.id = tool_id "
        "where turn_id = turns.id)",
    ),
    "fragments": (
        "turn_fragments",
        "(select json_group_array(json_array(hash, source)) from turn_fragments "
        "join fragments on fragments.id = fragment_id where turn_id = turns.id)",
    ),
}

_CHAINS = """
with recursive needed(hash) as (
    select value from json_each(?)
    union
    select parent_hash from needed join messages using (hash) where parent_hash is not null
)
select hash, parent_hash, role from needed join messages using (hash)
"""

_CHARACTERS = """
select total(length(text)) + total(length(payload)) + total({in_fragments}) from parts
where message_hash in (select value from json_each(?))
"""

_IN_FRAGMENTS = """
(select total(length(content)) from part_fragments
join fragments on fragments.id = fragment_id where part_id = parts.id)
"""

_ATTACHMENT = "select type, path, url from attachments where id = ?"

_ALIASES = """
select alias from fragment_aliases join fragments on fragments.id = fragment_id where hash = ?
"""

_OLDER = "select count(*) from responses where model = 'tiered' and {within}"

_WITHOUT_TIME = f"select count(*) from turns where model = 'tiered' and {_HAS_TIME} is not 1"  # noqa: S608 - our own words


class TurnWithPrompt(NamedTuple):
    """A turn of the log with its prompt.

    `counted` is whether it is a request to `tiered` in the period; the others are those before it
    in its conversation, and those of other models. `prompt` is the hash of its messages, which are
    None if the log no longer has them whole. `options` are None if they are damaged, and `record`
    is None if there is none. Tools and fragments are names.
    """

    id: str
    thread: str
    counted: bool
    model: str
    resolved_model: str | None
    prompt: str | None
    options: Mapping[str, Any] | None
    schema: Mapping[str, Any] | None
    tools: tuple[str, ...]
    fragments: tuple[str, ...]
    when: str
    input_tokens: Any
    output_tokens: Any
    token_details: str | None
    duration_ms: Any
    response_json: Any
    record: Record | None
    messages: Sequence[llm.Message] | None


class _Row(NamedTuple):
    """A row of _TURNS."""

    rowid: int
    id: str
    thread: str
    model: str
    resolved_model: str | None
    prompt: str | None
    options: str | None
    schema: str | None
    tools: str | None
    fragments: str | None
    when: str
    input_tokens: Any
    output_tokens: Any
    token_details: str | None
    duration_ms: Any
    response_json: str | None


class _Node(NamedTuple):
    """A message of the log with the hash of the one before it."""

    parent: str | None
    message: llm.Message | None


class LoggedConversations:
    """The turns of the conversations that have a request in the period, which `Period.bounds` give.

    `within` is the SQL condition on the times of the period, for these values.
    """

    def __init__(
        self, database: sqlite3.Connection, within: str, bounds: Mapping[str, str]
    ) -> None:
        self._database = database
        self._has_messages = all(has_table(database, name) for name in TABLES)
        self._turns = _TURNS.format(
            **{
                name: column if has_table(database, table) else "null"
                for name, (table, column) in _WITH_IT.items()
            }
        )
        in_fragments = _IN_FRAGMENTS if has_table(database, "part_fragments") else "0"
        self._characters = _CHARACTERS.format(in_fragments=in_fragments)
        self._rows = array("q")
        if has_table(database, "turns"):
            for rowid, counted in database.execute(_IDS.format(within=within), dict(bounds)):
                self._rows.append(2 * rowid + bool(counted))

    @property
    def counted(self) -> int:
        """The number of requests in the period."""
        return sum(row & 1 for row in self._rows)

    def __iter__(self) -> Iterator[TurnWithPrompt]:
        """Yield the turns, by conversation and then in order."""
        known: dict[str, _Node] = {}
        for start in range(0, len(self._rows), CHUNK):
            chunk = self._rows[start : start + CHUNK]
            ids = json.dumps([row >> 1 for row in chunk])
            rows = [_Row(*row) for row in self._database.execute(self._turns, (ids,))]
            counted = {row >> 1: bool(row & 1) for row in chunk}
            chains = self._chains(rows)
            hashes = [hash_ for hash_, _, _ in chains]
            for batch in [rows] if self._are_short(hashes) else [[row] for row in rows]:
                known |= self._nodes(chains if batch is rows else self._chains(batch), known)
                for row in batch:
                    yield self._turn(row, known, counted=counted[row.rowid])
                # The next turn is likely to continue the conversation of the last one.
                known = _chain(known, batch[-1].prompt) or {} if batch else {}

    def _chains(self, rows: Sequence[_Row]) -> list[tuple[str, str | None, str]]:
        """The messages up to these turns: the hash, that of the one before it, and the role."""
        if not self._has_messages:
            return []
        last = json.dumps([row.prompt for row in rows if row.prompt])
        return self._database.execute(_CHAINS, (last,)).fetchall()

    def _are_short(self, hashes: Sequence[str]) -> bool:
        """Whether all these messages may be in memory at the same time."""
        if not hashes:
            return True
        [characters] = self._database.execute(self._characters, (json.dumps(hashes),)).fetchone()
        return bool(characters <= MOST_CHARACTERS)

    def _nodes(
        self, chains: Sequence[tuple[str, str | None, str]], known: Mapping[str, _Node]
    ) -> dict[str, _Node]:
        """The messages that are not known yet."""
        new = [row for row in chains if row[0] not in known]
        parts = message_parts(self._database, [hash_ for hash_, _, _ in new]) if new else {}
        return {
            hash_: _Node(parent, self._message(role, parts[hash_])) for hash_, parent, role in new
        }

    def _message(self, role: str, rows: Sequence[PartRow]) -> llm.Message | None:
        """The message of these rows, or None if it is damaged or not whole."""
        try:
            return llm.Message(role=role, parts=[self._part(row) for row in rows])
        except (ValueError, TypeError, LookupError, AttributeError):
            return None

    def _part(self, row: PartRow) -> Part:
        if row.kind == "text":
            return TextPart(text_of(self._database, row, None))
        if row.kind == "reasoning":
            return ReasoningPart("" if row.content.get("redacted") else row.text or "")
        content = row.content
        call, on_server = content.get("tool_call_id"), bool(content.get("server_executed"))
        if row.kind == "tool_call":
            return ToolCallPart(row.tool or "", content.get("arguments") or {}, call, on_server)
        if row.kind == "tool_result":
            attached = [self._attachment(each) for each in content.get("attachments", [])]
            output = str(content.get("output") or "")
            return ToolResultPart(
                row.tool or "", output, call, on_server, attached, content.get("exception")
            )
        return AttachmentPart(self._attachment(content["attachment"]))

    def _attachment(self, reference: Mapping[str, Any]) -> llm.Attachment:
        row = self._database.execute(_ATTACHMENT, (reference["id"],)).fetchone()
        kind, path, url = row or (None, None, None)
        return llm.Attachment(type=kind, path=path, url=url)

    def _turn(self, row: _Row, known: Mapping[str, _Node], *, counted: bool) -> TurnWithPrompt:
        response = _parsed(row.response_json)
        chain = _chain(known, row.prompt)
        messages = [node.message for node in chain.values()] if chain else [None]
        whole = [message for message in messages if message]
        return TurnWithPrompt(
            id=row.id,
            thread=row.thread,
            counted=counted,
            model=row.model,
            resolved_model=row.resolved_model,
            prompt=row.prompt,
            options=_options(row.options),
            schema=_schema(row.schema),
            tools=tuple(json.loads(row.tools or "[]")),
            fragments=tuple(self._fragment_names(json.loads(row.fragments or "[]"))),
            when=str(row.when),
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            token_details=row.token_details,
            duration_ms=row.duration_ms,
            response_json=response,
            record=Record.from_json(response),
            messages=whole if len(whole) == len(messages) else None,
        )

    def _fragment_names(self, fragments: Sequence[tuple[str, str | None]]) -> Iterator[str]:
        """Yield the sources and the aliases of fragments."""
        for hash_, source in fragments:
            if source:
                yield source
            yield from (alias for (alias,) in self._database.execute(_ALIASES, (hash_,)))


def left_out(
    database: sqlite3.Connection, within: str, bounds: Mapping[str, str]
) -> tuple[int, int]:
    """Return the numbers of requests by an older llm, and of those whose time is damaged."""
    older = damaged = 0
    if has_table(database, "responses"):
        [older] = database.execute(_OLDER.format(within=within), dict(bounds)).fetchone()
    if has_table(database, "turns"):
        [damaged] = database.execute(_WITHOUT_TIME).fetchone()
    return older, damaged


def _chain(known: Mapping[str, _Node], last: str | None) -> dict[str, _Node] | None:
    """The messages up to a hash, in order; None if one is missing, or if they are a circle."""
    chain: dict[str, _Node] = {}
    while last is not None:
        if last not in known or last in chain:
            return None
        chain[last] = known[last]
        last = known[last].parent
    return dict(reversed(chain.items()))


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _options(text: str | None) -> Mapping[str, Any] | None:
    options = _parsed(text or "{}")
    return options if isinstance(options, dict) else None


@lru_cache(maxsize=100)
def _schema(text: str | None) -> Mapping[str, Any] | None:
    schema = _parsed(text)
    return schema if isinstance(schema, dict) else None
