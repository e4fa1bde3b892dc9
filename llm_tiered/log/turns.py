"""What llm's log says of the requests to `tiered`, read-only.

An older llm logged into `responses`, llm 0.36 logs into `turns`; a log may have either or both.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import TieredError
from . import prices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Seconds for which a log that another process has locked is tried again.
PATIENCE = 5.0

TABLES = ("turns", "responses")

_COLUMNS = (
    "id",
    "model",
    "resolved_model",
    "input_tokens",
    "output_tokens",
    "token_details",
    "duration_ms",
    "datetime_utc",
    "response_json",
)

# What takes few values is extracted as one text, which `_route` parses once. json_extract ends the
# whole query at JSON that is broken; there, this text is null.
_TURNS = """
select {day}, resolved_model,
    case when json_valid(response_json) then json_extract(
        response_json, '$.tiered.tier', '$.tiered.task', '$.response.modelVersion',
        '$.tiered.attempts[0].outcome', '$.tiered.attempts[0].reason')
    when response_json is null then '[null, null, null, null, null]' end,
    case when json_valid(response_json) then
        json_extract(response_json, '$.tiered.cached_from') is not null end,
    datetime_utc, input_tokens, output_tokens, token_details, duration_ms,
    case when json_valid(response_json) then json_extract(response_json, '$.tiered.ttft_ms') end
from ({source}) where model = 'tiered' {within}
"""

_OTHERS = """
select coalesce(model, 'unknown'), count(*), total(input_tokens), total(output_tokens)
from ({source}) where model is not 'tiered' {within} group by model
"""

# A row whose time nobody can read belongs to no period: it is handed out to be counted apart.
_WITHIN = "and (date(datetime_utc) is null or datetime_utc >= :since and datetime_utc < :until)"

# After any year.
_NEVER = "a"


class Period(NamedTuple):
    """From when (included) to when (not included), both aware; None is open."""

    since: datetime | None = None
    until: datetime | None = None


ALWAYS = Period()


class Route(NamedTuple):
    """Where a request was to go, and who answered.

    `tier` is the one that was decided for, `model` the one that answered, `local` whether that
    one runs on this machine, `priced_as` the name under which its price is found. `fallback` is
    why the first model did not answer, or None if it did. `cached` says that the answer came out
    of our own cache. `day` is the day where this machine is, if it was asked for.
    """

    tier: str | None
    task: str | None
    model: str | None
    local: bool
    priced_as: str | None
    fallback: str | None
    cached: bool
    day: str | None


class Turn(NamedTuple):
    """One request to `tiered`. None is what the log does not know."""

    when: datetime
    tokens: prices.Tokens | None
    duration_ms: int | None
    ttft_ms: int | None


class Others(NamedTuple):
    """What another model was asked."""

    model: str
    requests: int
    input_tokens: int
    output_tokens: int


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The log, open so that nothing can be written. Raises TieredError where it can't be read."""
    if not path.exists():
        raise TieredError(f"there is no log yet: {path}", fix="llm logs on, and ask something")
    try:
        uri = path.absolute().as_uri() + "?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as database:
            yield database
    except sqlite3.Error as error:
        fix = "try again in a moment" if "locked" in str(error) else None
        raise TieredError(f"{path} can't be read: {error}", fix=fix) from error


def read(
    database: sqlite3.Connection, period: Period, *, by_day: bool = False
) -> tuple[dict[Route, list[Turn]], int]:
    """The requests to `tiered` in the period by their route, and the number of unreadable rows."""
    found: dict[Route, list[Turn]] = {}
    unreadable = 0
    day = "date(datetime_utc, 'localtime')" if by_day else "null"
    for row in _select(database, _TURNS, period, day=day):
        try:
            route, turn = _route(*row[:4]), _turn(*row[4:])
        except (ValueError, TypeError, AttributeError):
            unreadable += 1
        else:
            found.setdefault(route, []).append(turn)
    return found, unreadable


def others(database: sqlite3.Connection, period: Period) -> list[Others]:
    """What the models other than `tiered` were asked in the period, most requests first."""
    found: dict[str, Others] = {}
    for model, *sums in _select(database, _OTHERS, period):
        before = found.get(model, Others(model, 0, 0, 0))
        both = (int(old + new) for old, new in zip(before[1:], sums, strict=True))
        found[model] = Others(model, *both)
    return sorted(found.values(), key=lambda other: (-other.requests, other.model))


def first_time(database: sqlite3.Connection) -> datetime | None:
    """When `tiered` was first asked, or None where the log does not know."""
    query = "select datetime_utc from ({source}) where model = 'tiered' order by id limit 1"
    try:
        return min((_time(text) for (text,) in _select(database, query, ALWAYS)), default=None)
    except (ValueError, TypeError):
        return None


def columns(database: sqlite3.Connection, table: str) -> set[str]:
    """The columns that the table has in this log; none where there is no such table."""
    rows = database.execute("select name from pragma_table_info(?)", (table,))
    return {name for (name,) in rows}


def as_logged(time: datetime) -> str:
    """A time as it compares with `datetime_utc`, to the second."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _select(
    database: sqlite3.Connection, query: str, period: Period, **words: str
) -> Iterator[tuple[Any, ...]]:
    """The rows of the query for each table of requests that this log has."""
    words["within"] = "" if period == ALWAYS else _WITHIN
    bounds = {
        "since": as_logged(period.since) if period.since else "",
        "until": as_logged(period.until) if period.until else _NEVER,
    }
    for table in TABLES:
        there = columns(database, table)
        if there:
            # The log of an older llm lacks some of them.
            wanted = [name if name in there else f"null as {name}" for name in _COLUMNS]
            words["source"] = f"select {', '.join(wanted)} from {table}"  # noqa: S608 - our own words
            yield from database.execute(query.format(**words), bounds)


@lru_cache(maxsize=10_000)
def _route(day: str | None, model: str | None, extracted: str, cached: int | None) -> Route:
    """What the query says of the way, once for each of the few values that it takes."""
    tier, task, version, outcome, reason = json.loads(extracted)
    return Route(
        tier=_text(tier),
        task=_text(task),
        model=_text(model),
        local=bool(model and prices.is_local(model)),
        priced_as=model and prices.with_version(model, _text(version)),
        fallback=f"{outcome}: {reason}" if outcome not in (None, "ok") else None,
        cached=bool(cached),
        day=day,
    )


def _turn(  # noqa: PLR0913, PLR0917 - columns of the query
    datetime_utc: str,
    input_tokens: int | None,
    output_tokens: int | None,
    details: str | None,
    duration_ms: int | None,
    ttft_ms: int | None,
) -> Turn:
    """One request. Raises ValueError, TypeError or AttributeError if the row can't be one."""
    tokens = None
    if _number(input_tokens) is not None and _number(output_tokens) is not None:
        tokens = prices.count(input_tokens, output_tokens, details)
    return Turn(_time(datetime_utc), tokens, _number(duration_ms), _number(ttft_ms))


def _time(datetime_utc: str) -> datetime:
    when = datetime.fromisoformat(datetime_utc)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def _number(value: int | None) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise ValueError(f"no number of anything: {value!r}")


def _text(value: str | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"no text: {value!r}")
