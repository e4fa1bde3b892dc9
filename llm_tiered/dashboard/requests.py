"""Single requests in the log: the latest ones, and one with everything that is logged about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..costs.charges import LoggedUsage, cost_of_usage
from ..costs.periods import ALWAYS, WITHIN, Period
from ..costs.prices import place_of, version_of
from ..log import messages
from ..log.database import TABLES, has_table, parse_time, reading, select_from
from ..log.record import RECORD, Record, inner_response
from ..wording import dollars, line, number, seconds, visible

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from ..costs.prices import Energy
    from ..log.messages import ShownMessage

# Number of the latest requests that are listed.
LATEST = 25

# Characters of a prompt in the list.
SNIPPET = 90

_COLUMNS = """
id, resolved_model, input_tokens, output_tokens, token_details, duration_ms, datetime_utc,
response_json
"""

_LATEST = """
select {columns} from ({source}) where model = 'tiered' {within} order by id desc limit :limit
"""

_ONE = "select {columns} from ({source}) where id = ? and model = 'tiered'"

# The table with the text of a prompt, and its query, by the table of the request.
_PROMPTS = {
    "turns": ("turn_search", "select prompt from turn_search where turn_id = ?"),
    "responses": ("responses", "select prompt from responses where id = ?"),
}

# The tables that the pages read.
SHOWN_TABLES = (*TABLES, "turn_search", *messages.TABLES)

NO_RECORD = "the log has no record of how this request was routed"
DAMAGED_RECORD = "the record of how this request was routed is damaged"


# How each source of a decision is described.
SOURCES = {
    "tier": "the request named the tier",
    "option": "the complexity was set by the request",
    "task": "the complexity was set by the task",
    "conversation": "the conversation continues on this tier",
    "rule": "a rule of the config decided",
    "estimate": "estimated from the prompt",
    "default": "no complexity was given, so the default of the config was used",
}
NO_REASON = "the log does not say why"

# How a decision for a tier that the request may not go to is described; others go by SOURCES.
_CHOSEN = {
    "tier": "the request named {tier}",
    "conversation": "the conversation was on {tier}",
}


@dataclass(frozen=True)
class LoggedRequest:
    """A request to `tiered` in the log; None means unknown.

    `table` is the one that has its row. `record` is what was recorded about the routing, and
    `problem` why that is missing or damaged. `response_json` is the whole parsed column.
    """

    table: str
    id: str
    model: str | None
    input_tokens: Any
    output_tokens: Any
    token_details: str | None
    duration_ms: Any
    datetime_utc: Any
    response_json: Any
    record: Record
    problem: str | None
    snippet: str = ""
    options: str | None = None
    messages: list[ShownMessage] = field(default_factory=list)
    earlier: int = 0
    answer: list[ShownMessage] = field(default_factory=list)

    @property
    def when(self) -> str:
        """The local time of the request."""
        try:
            time = parse_time(self.datetime_utc).astimezone()
            return time.strftime("%Y-%m-%d %H:%M:%S")
        except (ValueError, TypeError, OverflowError):
            return f"invalid time: {visible(str(self.datetime_utc))}"

    @property
    def reason(self) -> str:
        """Why it went to its tier; if that is not the one that was chosen, why it is not."""
        source, overruled = self.record.source or "", self.record.overruled
        if overruled:
            tier = line(overruled.tier, 80)
            begin = _CHOSEN.get(source, "{source}; it would have gone to {tier}")
            why = begin.format(source=SOURCES.get(source, NO_REASON), tier=tier)
            return f"{why}, but {line(overruled.why, 200)}"
        # Records of earlier versions do not have what was overruled.
        named = self._named_tier if source == "tier" else None
        if named and named != self.record.tier:
            return f"the request named {line(named, 80)}, but did not go there"
        return SOURCES.get(source, NO_REASON)

    @property
    def _named_tier(self) -> str | None:
        """The tier in the options of the request."""
        try:
            options = json.loads(self.options or "{}")
        except (ValueError, TypeError, RecursionError):
            return None
        tier = options.get("tier") if isinstance(options, dict) else None
        return tier if isinstance(tier, str) else None

    @property
    def switch(self) -> str:
        """Return what it cost, or would have cost, that the conversation changes its tier."""
        switch = self.record.switch
        if switch is None:
            return ""
        went, had = ("went", "had") if switch.made else ("did not go", "would have had")
        cost = dollars(None if switch.dollars is None else Decimal(str(switch.dollars)))
        return (
            f"The conversation {went} from {line(switch.origin, 80)} to {line(switch.target, 80)}, "
            f"whose model {had} to read {switch.tokens:,} tokens again (cost: {cost})."
        )

    @property
    def tokens(self) -> str:
        """The number of tokens of the prompt and of the answer."""
        return f"{_count(self.input_tokens)} in, {_count(self.output_tokens)} out"

    @property
    def duration(self) -> str:
        """The time to the complete answer."""
        return seconds(self.duration_ms if isinstance(self.duration_ms, (int, float)) else None)

    @property
    def first_token(self) -> str:
        """The time to the first token of the answer."""
        return seconds(self.record.ttft_ms)

    @property
    def answered_from(self) -> str:
        """Where the answer came from: "here", "own", "cloud" or "cache"."""
        return "cache" if self.record.cached_from else place_of(self.model, self.record.place)

    @property
    def inner_response(self) -> Any:
        """The response_json of the model that answered."""
        return None if self.raw_record is None else inner_response(self.response_json)

    @property
    def raw_record(self) -> Any:
        """The record as it is in the log."""
        return self.response_json.get(RECORD) if isinstance(self.response_json, dict) else None

    def cost(self, energy: Energy | None) -> str:
        """Return the dollars, which include the power for local answers, or "unknown"."""
        priced = self.answered_from in ("cloud", "own") or self.record.price
        if self.answered_from != "cache" and priced:
            return dollars(
                cost_of_usage(
                    LoggedUsage(
                        model=self.model,
                        version=version_of(self.inner_response),
                        datetime_utc=self.datetime_utc,
                        input_tokens=self.input_tokens,
                        output_tokens=self.output_tokens,
                        token_details=self.token_details,
                        place=self.record.place,
                        price=self.record.price,
                        ms=self.duration_ms,
                    )
                )
            )
        if self.answered_from == "cache" or not energy:
            return dollars(Decimal(0))
        return dollars(energy.cost(self.duration_ms) if isinstance(self.duration_ms, int) else None)


def latest_requests(path: Path, period: Period) -> list[LoggedRequest]:
    """Return the latest requests of the period, newest first. Raises TieredError."""
    within = "" if period == ALWAYS else f"and {WITHIN}"
    requests: list[LoggedRequest] = []
    with reading(path) as database:
        for table in TABLES:
            source = select_from(database, table)
            if source and len(requests) < LATEST:
                query = _LATEST.format(columns=_COLUMNS, source=source, within=within)
                limit = {"limit": LATEST - len(requests)}
                rows = database.execute(query, {**period.bounds, **limit}).fetchall()
                requests += [
                    _request(table, row, snippet=_snippet(database, table, row[0])) for row in rows
                ]
    return requests


def find_request(path: Path, id_: str) -> LoggedRequest | None:
    """Return the request to `tiered` with this id, or None. Raises TieredError."""
    with reading(path) as database:
        for table in TABLES:
            source = select_from(database, table)
            query = _ONE.format(columns=_COLUMNS, source=source)
            row = database.execute(query, (id_,)).fetchone() if source else None
            if row:
                turn = messages.shown_turn(database, table, id_)
                (options,) = database.execute(
                    f"select options_json from {table} where id = ?",  # noqa: S608
                    (id_,),
                ).fetchone()
                request = _request(
                    table,
                    row,
                    options=options,
                    messages=turn.prompt,
                    earlier=turn.earlier,
                    answer=turn.answer,
                )
                whole = messages.whole_response(database, id_, request.response_json)
                return replace(request, response_json=whole)
    return None


def snippets(path: Path, ids: Sequence[str]) -> dict[str, str]:
    """Return the beginnings of the prompts of turns, as far as the log has them."""
    with reading(path) as database:
        return {id_: _snippet(database, "turns", id_) for id_ in ids}


def _request(table: str, row: tuple[Any, ...], **more: Any) -> LoggedRequest:
    *columns, text = row
    try:
        response_json = None if text is None else json.loads(text)
    except (ValueError, TypeError, RecursionError):
        response_json = None
    record = Record.from_json(response_json) or Record()
    problem = None if record.tier else DAMAGED_RECORD
    if text is None:
        problem = NO_RECORD
    more |= {"response_json": response_json, "record": record, "problem": problem}
    return LoggedRequest(table, *columns, **more)


def _snippet(database: sqlite3.Connection, table: str, id_: str) -> str:
    source, query = _PROMPTS[table]
    if not has_table(database, source):
        return ""
    row = database.execute(query, (id_,)).fetchone()
    return line(str(row[0] or ""), SNIPPET) if row else ""


def _count(tokens: Any) -> str:
    return number(tokens) if isinstance(tokens, int) else "unknown"
