"""Single requests out of the log: the latest ones, and one with all that is known of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .. import gemini
from ..costs import prices
from ..costs.charges import LoggedUsage, cost_of_usage
from ..costs.periods import ALWAYS, WITHIN, Period
from ..log import database as log_database
from ..log import messages
from ..wording import dollars, line, number, seconds, visible

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from ..log.messages import ShownMessage

# How many of the latest requests are shown.
LATEST = 25

# Letters of a prompt in the list.
SNIPPET = 90

_LATEST = """
select id, resolved_model, input_tokens, output_tokens, duration_ms, datetime_utc, response_json
from ({source}) where model = 'tiered' {within} order by id desc limit :limit
"""

# Where the text of a prompt stands, by the table that the request stands in.
_PROMPTS = {
    "turns": ("turn_search", "select prompt from turn_search where turn_id = ?"),
    "responses": ("responses", "select prompt from responses where id = ?"),
}

# All that a request page is made of.
TABLES = (*log_database.TABLES, "turn_search", *messages.TABLES)


@dataclass(frozen=True)
class Request:
    """A request as the log has it; what the log does not know is None.

    `record` is what `tiered` noted of it. `problem` says why that is empty although it should
    not be.
    """

    table: str
    id: str
    model: str | None
    input_tokens: Any
    output_tokens: Any
    duration_ms: Any
    datetime_utc: Any
    record: dict[str, Any] = field(default_factory=dict)
    service: Any = None
    problem: str | None = None
    snippet: str = ""
    options: str | None = None
    token_details: str | None = None
    messages: list[ShownMessage] = field(default_factory=list)
    earlier: int = 0
    answer: list[ShownMessage] = field(default_factory=list)

    @property
    def when(self) -> str:
        """The time on this machine's clock."""
        try:
            return (
                log_database.parse_time(self.datetime_utc)
                .astimezone()
                .strftime("%Y-%m-%d %H:%M:%S")
            )
        except (ValueError, TypeError, OverflowError):
            return f"no time: {visible(str(self.datetime_utc))}"

    @property
    def tokens(self) -> str:
        """Tokens of the prompt and of the answer."""
        return f"{_count(self.input_tokens)} in, {_count(self.output_tokens)} out"

    @property
    def duration(self) -> str:
        """Time to the whole answer."""
        return _seconds(self.duration_ms)

    @property
    def first_token(self) -> str:
        """Time to the beginning of the answer."""
        return _seconds(self.record.get("ttft_ms"))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """What was tried, first to last."""
        attempts = self.record.get("attempts")
        return [one for one in attempts if isinstance(one, dict)] if attempts else []

    @property
    def fell_back(self) -> str | None:
        """Why the first model did not answer."""
        return str(reason) if self.attempts and (reason := self.attempts[0].get("reason")) else None

    @property
    def answered(self) -> str:
        """Who answered: the class of its colour in the charts."""
        if self.record.get("cached_from"):
            return "cache"
        return "here" if self.model and prices.is_local(self.model) else "cloud"

    def cost(self, energy: prices.Energy | None) -> str:
        """Dollars, with what the power here costs, or that nobody knows."""
        if self.answered == "cloud":
            version = gemini.model_version(self.service)
            return dollars(
                cost_of_usage(
                    LoggedUsage(
                        self.model,
                        version,
                        self.datetime_utc,
                        self.input_tokens,
                        self.output_tokens,
                        self.token_details,
                    )
                )
            )
        if self.answered == "cache" or not energy:
            return dollars(Decimal(0))
        timed = isinstance(self.duration_ms, int)
        return dollars(energy.cost(self.duration_ms) if timed else None)


def latest(path: Path, period: Period) -> list[Request]:
    """The latest requests of the period, newest first. Raises TieredError."""
    bounds: dict[str, Any] = {**period.bounds}
    within = "" if period == ALWAYS else f"and {WITHIN}"
    found: list[Request] = []
    with log_database.reading(path) as database:
        for table in log_database.TABLES:
            source = log_database.select_from(database, table)
            if source and len(found) < LATEST:
                query = _LATEST.format(source=source, within=within)
                bounds["limit"] = LATEST - len(found)
                rows = database.execute(query, bounds).fetchall()
                found += [
                    _request(table, *row, snippet=_snippet(database, table, row[0])) for row in rows
                ]
    return found


def find(path: Path, id_: str) -> Request | None:
    """The request to `tiered` of that id, or None if there is none. Raises TieredError."""
    with log_database.reading(path) as database:
        for table in log_database.TABLES:
            source = log_database.select_from(database, table)
            if not source:
                continue
            columns = "resolved_model, input_tokens, output_tokens, duration_ms, datetime_utc"
            row = database.execute(
                f"select id, {columns}, response_json, token_details from ({source}) "  # noqa: S608
                "where id = ? and model = 'tiered'",
                (id_,),
            ).fetchone()
            if row:
                *shown, details = row
                asked, earlier, answer = messages.shown_turn(database, table, id_)
                (options,) = database.execute(
                    f"select options_json from {table} where id = ?",  # noqa: S608 - our names
                    (id_,),
                ).fetchone()
                return _request(
                    table,
                    *shown,
                    options=options,
                    token_details=details,
                    messages=asked,
                    earlier=earlier,
                    answer=answer,
                )
    return None


def _request(table: str, *columns: Any, **more: Any) -> Request:
    *shown, response_json = columns
    more["record"], more["service"], more["problem"] = _parse(response_json)
    return Request(table, *shown, **more)


def _parse(response_json: Any) -> tuple[dict[str, Any], Any, str | None]:
    """What `tiered` noted, what the service said, and what is wrong with it."""
    if response_json is None:
        return {}, None, "the log has no record of how this request was routed"
    try:
        said = json.loads(response_json)
        record = said["tiered"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}, None, "the record of how this request was routed is damaged"
    if not isinstance(record, dict):
        return {}, said.get("response"), "the record of how this request was routed is damaged"
    return record, said.get("response"), None


def _snippet(database: sqlite3.Connection, table: str, id_: str) -> str:
    source, query = _PROMPTS[table]
    if not log_database.has_table(database, source):
        return ""
    row = database.execute(query, (id_,)).fetchone()
    return line(str(row[0] or ""), SNIPPET) if row else ""


def _count(tokens: Any) -> str:
    return number(tokens) if isinstance(tokens, int) else "unknown"


def _seconds(milliseconds: Any) -> str:
    return seconds(milliseconds if isinstance(milliseconds, (int, float)) else None)
