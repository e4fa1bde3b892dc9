"""What llm's log says of the requests to `tiered`, read-only.

An older llm logged into `responses`, llm 0.36 logs into `turns`; a log may have either or both.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import TieredError
from . import prices

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from pathlib import Path

_Key = TypeVar("_Key", bound="Hashable")

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

# First what many rows have in common, then what each has of its own. What the JSON says of the way
# is one text, which is parsed once for many rows; it is null where the JSON is broken, which would
# end the whole query.
_TURNS = """
select {day}, resolved_model,
    case when json_valid(response_json) then
        json_extract(response_json, '$.tiered.cached_from') is not null end,
    case when json_valid(response_json) then json_extract(
        response_json, '$.tiered.tier', '$.tiered.task', '$.response.modelVersion',
        '$.tiered.attempts[0].reason')
    when response_json is null then '[null, null, null, null]' end,
    datetime_utc, input_tokens, output_tokens, duration_ms,
    case when json_valid(response_json) then json_extract(response_json, '$.tiered.ttft_ms') end,
    {details}
from ({source}) where model = 'tiered' {within}
"""

# The details of what can't be priced together with other requests, else null.
DETAILS = f"""
case when input_tokens > {prices.LONG_PROMPT} or instr(token_details, 'cachedContentTokenCount')
    or instr(token_details, 'AUDIO') then coalesce(token_details, '') end
"""

_OTHERS = """
select coalesce(model, 'unknown'), count(*), total(input_tokens), total(output_tokens)
from ({source}) where model is not 'tiered' {within} group by model
"""

_FIRST = "select datetime_utc from ({source}) where model = 'tiered' {within} order by id limit 1"

# A row whose time nobody can read belongs to no period: it is handed out to be counted apart.
_WITHIN = "and (date(datetime_utc) is null or datetime_utc >= :since and datetime_utc < :until)"

# What differs in reasons that are the same: "cooling down for 42 s more", "has 5,321 tokens".
_VARIES = re.compile(r"\d[\d.,]*\s?(?=(?:s|ms|MB|GB|tokens)\b)")

# After any year.
_NEVER = "a"


class Period(NamedTuple):
    """From when (included) to when (not included), both aware; None is open."""

    since: datetime | None = None
    until: datetime | None = None


ALWAYS = Period()


class Route(NamedTuple):
    """Where a request was to go, and who answered.

    `tier` is the one that was decided for, `model` the one that answered, `version` what the
    service calls it. `fallback` is why the first model did not answer, or None if it did.
    `cached` says that the answer came out of our own cache. `day` is the day where this machine
    is, if it was asked for.
    """

    tier: str | None
    task: str | None
    model: str | None
    version: str | None
    fallback: str | None
    cached: bool
    day: str | None

    @property
    def local(self) -> bool:
        """Whether the model that answered runs on this machine."""
        return self.model is not None and prices.is_local(self.model)


@dataclass(frozen=True)
class Requests:
    """Requests that took one route: a column for each thing that differs, a place for each request.

    Times are as the log has them, in UTC; durations and the times to the first output are
    milliseconds. `special` are the tokens of what has to be priced by itself. None is what the
    log does not know.
    """

    times: tuple[str, ...]
    input_tokens: tuple[int | None, ...]
    output_tokens: tuple[int | None, ...]
    durations: tuple[int | None, ...]
    first_outputs: tuple[int | None, ...]
    special: tuple[prices.Tokens | None, ...]

    def __len__(self) -> int:
        return len(self.times)

    def split(self, keys: Sequence[_Key]) -> dict[_Key, Requests]:
        """The requests by their key; there is one for each."""
        if len(set(keys)) == 1:
            return {keys[0]: self}
        parts = defaultdict(list)
        for key, row in zip(keys, zip(*vars(self).values(), strict=True), strict=True):
            parts[key].append(row)
        return {key: Requests(*zip(*rows, strict=True)) for key, rows in parts.items()}


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
) -> tuple[dict[Route, Requests], int]:
    """The requests to `tiered` in the period by their route, and the number of unreadable rows."""
    rows: defaultdict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    day = "date(datetime_utc, 'localtime')" if by_day else "null"
    for row in _select(database, _TURNS, period, day=day, details=DETAILS):
        rows[row[:4]].append(row[4:])
    found: dict[Route, Requests] = {}
    unreadable = 0
    for common, own in rows.items():
        readable = [] if common[3] is None else _readable(own)
        unreadable += len(own) - len(readable)
        if readable:
            found[_route(*common)] = Requests(*zip(*readable, strict=True))
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
    try:
        return min((parse(text) for (text,) in _select(database, _FIRST, ALWAYS)), default=None)
    except (ValueError, TypeError):
        return None


def parse(datetime_utc: str) -> datetime:
    """A time of the log, aware. Raises ValueError or TypeError if it is none."""
    when = datetime.fromisoformat(datetime_utc)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def as_logged(time: datetime) -> str:
    """A time as it compares with those of the log, to the second."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def select_from(database: sqlite3.Connection, table: str) -> str | None:
    """A query for the columns that reports need; an older llm's log lacks some, or the table."""
    rows = database.execute("select name from pragma_table_info(?)", (table,))
    there = {name for (name,) in rows}
    wanted = [name if name in there else f"null as {name}" for name in _COLUMNS]
    return f"select {', '.join(wanted)} from {table}" if there else None  # noqa: S608 - our words


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
        source = select_from(database, table)
        if source:
            yield from database.execute(query.format(source=source, **words), bounds)


def _route(day: str | None, model: str | None, cached: int | None, extracted: str) -> Route:
    tier, task, version, reason = json.loads(extracted)
    return Route(
        tier=tier and str(tier),
        task=task and str(task),
        model=model and str(model),
        version=version and str(version),
        fallback=reason and _VARIES.sub("… ", str(reason)),
        cached=bool(cached),
        day=day,
    )


def _readable(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows that make sense, with tokens in place of the details."""
    if not _sound(rows):
        rows = [row for row in rows if _sound([row])]
    if all(row[5] is None for row in rows):
        return rows
    readable = []
    for row in rows:
        try:
            readable.append((*row[:5], _special(*row)))
        except (ValueError, TypeError, AttributeError):
            continue
    return readable


def _sound(rows: list[tuple[Any, ...]]) -> bool:
    """Whether all times are times, and all numbers of tokens and milliseconds such numbers."""
    times, *numbers, _ = zip(*rows, strict=True)
    try:
        for _ in map(datetime.fromisoformat, times):
            pass
    except (ValueError, TypeError):
        return False
    return all(
        set(map(type, column)) <= {int, type(None)} and min(filter(None, column), default=0) >= 0
        for column in numbers
    )


def _special(
    _time: str,
    input_tokens: int | None,
    output_tokens: int | None,
    _duration: int | None,
    _first_output: int | None,
    details: str | None,
) -> prices.Tokens | None:
    if details is None or input_tokens is None or output_tokens is None:
        return None
    return prices.count(input_tokens, output_tokens, details)
