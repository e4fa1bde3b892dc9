"""The requests to `tiered` in llm's log, read-only, in columns that reports can add up fast."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import reduce
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from .. import gemini
from ..log.database import TABLES, any_text, parse_time, select_from
from ..log.record import json_path, sql, sql_at
from .periods import ALWAYS, WITHIN, Period
from .prices import LONG_PROMPT, VERSION_PATHS, Tokens, count_tokens, is_local

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

_Key = TypeVar("_Key", bound="Hashable")

# What requests can be grouped by, with the SQL expressions of the keys.
By = Literal["day", "tier", "task", "model", "rule", "rollout"]
_KEYS = {
    None: "null",
    "day": "date(datetime_utc, 'localtime')",
    "tier": sql("tier"),
    "task": sql("task"),
    "model": "resolved_model",
    # A list in JSON, whose names have no quotes: those of all rules that had a say.
    "rule": f"""replace(trim({sql("rules")}, '[]"'), '","', ', ')""",
    "rollout": f"({sql('rollout', 'name')}) || "
    f"case {sql('rollout', 'included')} when 1 then ', rolled out' else ', as before' end",
}

# First the columns that many rows have in common, then those of the single row. Version and
# fallback are one text, so that it is parsed once for many rows; it is null if the JSON is damaged.
# An answer from the cache comes with the tokens of the earlier answer.
_TURNS = f"""
select {{keys}}, resolved_model,
    {sql("cached_from")} is not null,
    case when response_json is null then '[null, null, null]'
        else {sql_at(*VERSION_PATHS, json_path("attempts[0]", "reason"))} end,
    datetime_utc, input_tokens, output_tokens, duration_ms, {sql("ttft_ms")},
    case when input_tokens = 0 and output_tokens = 0 and {sql("cached_from")} is not null
    then coalesce((
        select earlier.input_tokens || ' ' || earlier.output_tokens from ({{source}}) as earlier
        where earlier.id = {sql("cached_from", column="logged.response_json")}
    ), '') else {{details}} end
from ({{source}}) as logged where model = 'tiered' {{within}}
"""  # noqa: S608 - our own words

# The token details without the words that tell no price apart.
_PECULIAR = reduce(
    lambda text, word: f"replace({text}, '{word}', '')", gemini.PLAIN_DETAILS, "token_details"
)

# The token details of a request that must be priced on its own, otherwise null.
DETAILS = f"""
case when input_tokens > {LONG_PROMPT} or {_PECULIAR} glob '*[a-zA-Z]*'
    then coalesce(token_details, '') end
"""

_OTHER_MODELS = """
select coalesce(model, 'unknown'), count(*), total(input_tokens), total(output_tokens)
from ({source}) where model is not 'tiered' {within} group by model
"""

_FIRST = "select datetime_utc from ({source}) where model = 'tiered' {within} order by id limit 1"

# A row whose time is damaged belongs to no period: it is selected too, and counted as unreadable.
_WITHIN_OR_DAMAGED = f"""
and ({WITHIN} or date(datetime_utc) is null or datetime_utc not like '____-__-__%')
"""

# The numbers in which reasons of the same kind differ: "cooling down for 42 s more",
# "has 5,321 tokens", "$0.99 of $1.00 spent".
_NUMBERS = re.compile(r"\d[\d.,]*\s?(?=(?:s|ms|MB|GB|tokens)\b)|\$\d+(?:[.,]\d+)*\s?")


class Route(NamedTuple):
    """Which model answered, and why.

    `key` is the group of the request, for example its tier. `model` is the model that answered,
    `version` what the service calls it. `fallback` is the reason why the first model did not
    answer, or None if it did. `cached` is whether the answer came from our own cache.
    """

    key: str | None
    model: str | None
    version: str | None
    fallback: str | None
    cached: bool

    @property
    def local(self) -> bool:
        """Whether the model that answered runs on this machine."""
        return self.model is not None and is_local(self.model)


@dataclass
class Requests:
    """The requests that took one route, in columns of the same length.

    Times are UTC, as in the log; durations and the times to the first output are milliseconds.
    `special` has the tokens of requests that must be priced on their own; for answers from the
    cache, those of the earlier answer. None means unknown.
    """

    times: list[str] = field(default_factory=list)
    input_tokens: list[int | None] = field(default_factory=list)
    output_tokens: list[int | None] = field(default_factory=list)
    durations: list[int | None] = field(default_factory=list)
    first_outputs: list[int | None] = field(default_factory=list)
    special: list[Tokens | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times)

    def split(self, keys: Sequence[_Key]) -> dict[_Key, Requests]:
        """Return the requests by their keys, given one key for each."""
        if len(set(keys)) == 1:
            return {keys[0]: self}
        return {
            key: Requests(*(list(compress(column, chosen)) for column in vars(self).values()))
            for key in set(keys)
            if (chosen := [other == key for other in keys])
        }


class Routes(NamedTuple):
    """The requests of a period by their routes, and the number of damaged rows left out."""

    requests: list[tuple[Route, Requests]]
    unreadable: int


class OtherModel(NamedTuple):
    """How much a model other than `tiered` was used."""

    model: str
    requests: int
    input_tokens: int
    output_tokens: int


def read_routes(
    database: sqlite3.Connection, period: Period, groupings: Sequence[By | None] = (None,)
) -> list[Routes]:
    """Return the requests to `tiered` in the period, once for each grouping, in one pass."""
    # Accepting damaged text costs a tenth of a second, so it is the second try.
    database.text_factory = str
    try:
        return _read(database, period, groupings)
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    finally:
        database.text_factory = any_text
    return _read(database, period, groupings)


def read_other_models(database: sqlite3.Connection, period: Period) -> list[OtherModel]:
    """Return the use of all models but `tiered` in the period, most requests first."""
    models: dict[str, OtherModel] = {}
    for name, *sums in _select(database, _OTHER_MODELS, period):
        before = models.get(name, OtherModel(name, 0, 0, 0))
        totals = (int(old + new) for old, new in zip(before[1:], sums, strict=True))
        models[name] = OtherModel(name, *totals)
    return sorted(models.values(), key=lambda other: (-other.requests, other.model))


def first_request_time(database: sqlite3.Connection) -> datetime | None:
    """Return when the first request to `tiered` was made, or None if unknown."""
    try:
        return min(
            (parse_time(text) for (text,) in _select(database, _FIRST, ALWAYS)), default=None
        )
    except (ValueError, TypeError):
        return None


def without_numbers(reason: str) -> str:
    """Return a reason without the numbers that differ each time, so that equal ones are equal."""
    return _NUMBERS.sub("… ", reason).rstrip()


def _read(
    database: sqlite3.Connection, period: Period, groupings: Sequence[By | None]
) -> list[Routes]:
    keys = ", ".join(_KEYS[by] for by in groupings)
    rows = _select(database, _TURNS, period, keys=keys, details=DETAILS)
    if len(groupings) == 1:
        return [_by_route(rows)]
    table = list(rows)
    return [
        _by_route((row[column], *row[len(groupings) :]) for row in table)
        for column in range(len(groupings))
    ]


def _select(
    database: sqlite3.Connection, query: str, period: Period, **words: str
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the query on each table of requests that the log has."""
    words["within"] = "" if period == ALWAYS else _WITHIN_OR_DAMAGED
    for table in TABLES:
        source = select_from(database, table)
        if source:
            yield from database.execute(query.format(source=source, **words), period.bounds)


def _by_route(rows: Iterable[tuple[Any, ...]]) -> Routes:
    groups: defaultdict[tuple[Any, ...], Requests] = defaultdict(Requests)
    unreadable = 0
    for key, model, cached, extracted, time, *counts, ms, first_output, details in rows:
        inputs, outputs = counts
        try:
            if cached and inputs == outputs == 0:
                special = _earlier_tokens(details)
                inputs, outputs = (inputs, outputs) if special else (None, None)
            else:
                special = None if details is None else _special(inputs, outputs, details, model)
        except (ValueError, TypeError, AttributeError):
            unreadable += 1
            continue
        requests = groups[key, model, cached, extracted]
        requests.times.append(time)
        requests.input_tokens.append(inputs)
        requests.output_tokens.append(outputs)
        requests.durations.append(ms)
        requests.first_outputs.append(first_output)
        requests.special.append(special)
    routes = []
    for (key, model, cached, extracted), requests in groups.items():
        readable = None if extracted is None else _readable(requests)
        unreadable += len(requests) - (len(readable) if readable else 0)
        if readable:
            routes.append((_route(key, model, cached, extracted), readable))
    return Routes(routes, unreadable)


def _route(key: str | None, model: str | None, cached: int, extracted: str) -> Route:
    *versions, reason = json.loads(extracted)
    version = next(filter(None, versions), None)
    return Route(
        key=key and str(key),
        model=model and str(model),
        version=version and str(version),
        fallback=reason and without_numbers(str(reason)),
        cached=bool(cached),
    )


def _readable(requests: Requests) -> Requests | None:
    """Return the requests with valid times and numbers, or None if there are none."""
    if _is_readable(requests):
        return requests
    rows = zip(*vars(requests).values(), strict=True)
    readable = [_is_readable(Requests(*([value] for value in row))) for row in rows]
    return requests.split(readable).get(True)


def _is_readable(requests: Requests) -> bool:
    # By columns: row by row would take several times as long.
    try:
        for _ in map(datetime.fromisoformat, requests.times):
            pass
        for _ in map(date.fromisoformat, {time[:10] for time in requests.times}):
            pass
    except (ValueError, TypeError):
        return False
    numbers = (
        requests.input_tokens,
        requests.output_tokens,
        requests.durations,
        requests.first_outputs,
    )
    return all(
        set(map(type, column)) <= {int, type(None)} and min(filter(None, column), default=0) >= 0
        for column in numbers
    )


def _earlier_tokens(details: str) -> Tokens | None:
    """Return the tokens of the answer that was repeated, or None if it is no longer in the log."""
    counts = details.split()
    if len(counts) != 2 or not all(map(str.isdecimal, counts)):
        return None
    return Tokens(int(counts[0]), int(counts[1]))


def _special(
    inputs: int | None, outputs: int | None, details: str, model: str | None
) -> Tokens | None:
    if inputs is None or outputs is None:
        return None
    return count_tokens(inputs, outputs, details, model)
