"""The requests to `tiered` in llm's log, read-only, row by row."""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import date, datetime
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .. import gemini
from ..config.price import ConfigPrice
from ..log.database import any_text, parse_time, select_from
from ..log.record import json_path, sql, sql_at
from .periods import ALWAYS, WITHIN, Period
from .prices import LONG_PROMPT, VERSION_PATHS, Tokens, count_tokens, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.terms import Place

# What requests can be grouped by.
By = Literal["day", "tier", "task", "model", "rule", "rollout"]

# The lowest and the highest rowid.
FIRST_PLACE, LAST_PLACE = -(1 << 63), (1 << 63) - 1

# A row whose time is damaged belongs to no day and no period: it is selected in any of them.
_DAMAGED = "(date(datetime_utc) is null or datetime_utc not like '____-__-__%')"

# The day of a row in this machine's time zone, or "" if its time is damaged.
DAY = f"""
case when {_DAMAGED} then '' else ifnull(date(datetime_utc, 'localtime'), date(datetime_utc)) end
"""

_WITHIN_OR_DAMAGED = f"and ({WITHIN} or {_DAMAGED})"

# Rules are a list in JSON, whose names have no quotes: those of all rules that had a say.
_RULE = f"""replace(trim({sql("rules")}, '[]"'), '","', ', ')"""
_ROLLOUT = (
    f"({sql('rollout', 'name')}) || "
    f"case {sql('rollout', 'included')} when 1 then ', rolled out' else ', as before' end"
)

# The token details without the words that tell no price apart.
_PECULIAR = reduce(
    lambda text, word: f"replace({text}, '{word}', '')", gemini.PLAIN_DETAILS, "token_details"
)

# The token details of a request that must be priced on its own, otherwise null.
DETAILS = f"""
case when input_tokens > {LONG_PROMPT} or {_PECULIAR} glob '*[a-zA-Z]*'
    then coalesce(token_details, '') end
"""

# The tokens of the answer that an answer from the cache repeats, which are in another row.
EARLIER = f"""
(select earlier.input_tokens || ' ' || earlier.output_tokens from ({{source}}) as earlier
where earlier.id = {sql("cached_from", column="logged.response_json")})
"""  # noqa: S608 - our own words

_EXTRACTED = (json_path("place"), json_path("price"), json_path("attempts[0]", "reason"))

# Version, place and fallback are one text, so that it is parsed once for many rows; it is null if
# the JSON is damaged. An answer from the cache comes with the tokens of the earlier answer.
_REQUESTS = f"""
select day, {sql("tier")}, {sql("task")}, resolved_model, {_RULE}, {_ROLLOUT},
    {sql("cached_from")} is not null,
    case when response_json is null then '[null, null, null, null, null]'
        else {sql_at(*VERSION_PATHS, *_EXTRACTED)} end,
    datetime_utc, input_tokens, output_tokens, duration_ms, {sql("ttft_ms")},
    case when input_tokens = 0 and output_tokens = 0 and {sql("cached_from")} is not null
    then coalesce({EARLIER}, '') else {DETAILS} end
from (select *, {DAY} as day from (select {{columns}})) as logged
where model = 'tiered' {{within}}
"""  # noqa: S608 - our own words

_OTHER_MODELS = f"""
select day, coalesce(model, 'unknown'), count(*), total(input_tokens), total(output_tokens)
from (select *, {DAY} as day from (select {{columns}}))
where model is not 'tiered' {{within}} group by 1, 2
"""  # noqa: S608 - our own words

# Ordered by an expression, because the index of the ids would lead through all of them.
_FIRST = """
select id, datetime_utc from (select {columns}) where model = 'tiered' order by +id limit 1
"""

_ANY = "select 1 from (select {columns}) where model = 'tiered' limit 1"

# The numbers in which reasons of the same kind differ: "cooling down for 42 s more",
# "has 5,321 tokens", "$0.99 of $1.00 spent".
_NUMBERS = re.compile(r"\d[\d.,]*\s?(?=(?:s|ms|MB|GB|tokens)\b)|\$\d+(?:[.,]\d+)*\s?")


class Route(NamedTuple):
    """Where a request went, which model answered, and why.

    `model` is the model that answered, `version` what the service calls it. `fallback` is the
    reason why the first model did not answer, or None if it did. `cached` is whether the answer
    came from our own cache. `place` is where that model runs, and `price` its ConfigPrice as text.
    """

    tier: str | None
    task: str | None
    model: str | None
    rule: str | None
    rollout: str | None
    version: str | None
    fallback: str | None
    cached: bool
    place: Place = "cloud"
    price: str | None = None

    @property
    def answer(self) -> Route:
        """The same without the reasons: what a request cost depends on nothing else."""
        return self._replace(tier=None, task=None, rule=None, rollout=None, fallback=None)


class LoggedTurn(NamedTuple):
    """A request to `tiered`.

    `day` is that of the machine's time zone, "" if the time is damaged. Times are UTC, as in the
    log; the duration and the time to the first output are milliseconds. `special` has the tokens of
    a request that must be priced on its own; for an answer from the cache, those of the earlier
    answer. None means unknown.
    """

    day: str
    route: Route
    time: str
    input_tokens: int | None
    output_tokens: int | None
    duration: int | None
    first_output: int | None
    special: Tokens | None


class OtherModel(NamedTuple):
    """How much a model other than `tiered` was used."""

    model: str
    requests: int
    input_tokens: int
    output_tokens: int


class Range(NamedTuple):
    """The rows of a table after one rowid, up to another one, or those of one day among them."""

    table: str
    after: int = FIRST_PLACE
    last: int = LAST_PLACE
    day: str | None = None


def read_turns(
    database: sqlite3.Connection, rows: Range, period: Period = ALWAYS
) -> Iterator[LoggedTurn | str]:
    """Yield the requests to `tiered` in the period; for a row that is damaged, only its day."""
    for row in _select(database, _REQUESTS, rows, period):
        try:
            turn = _turn(*row)
        except (ValueError, TypeError, AttributeError):
            yield row[0]
        else:
            yield turn


def read_other_models(
    database: sqlite3.Connection, rows: Range, period: Period = ALWAYS
) -> list[tuple[str, str, int, float, float]]:
    """Return the day, model, number, input and output tokens of all requests but to `tiered`."""
    return _select(database, _OTHER_MODELS, rows, period)


def has_turns(database: sqlite3.Connection, rows: Range) -> bool:
    """Return whether there is any request to `tiered`, be it damaged."""
    return bool(_select(database, _ANY, rows))


def first_request(database: sqlite3.Connection, rows: Range) -> tuple[Any, Any] | None:
    """Return the lowest id of a request to `tiered`, and its time, or None if there is none."""
    return next(iter(_select(database, _FIRST, rows)), None)


def without_numbers(reason: str) -> str:
    """Return a reason without the numbers that differ each time, so that equal ones are equal."""
    return _NUMBERS.sub("… ", reason).rstrip()


def _select(
    database: sqlite3.Connection, query: str, rows: Range, period: Period = ALWAYS
) -> list[Any]:
    """Return the rows of the query on a part of a table, none if the log lacks the table."""
    source = select_from(database, rows.table)
    if not source:
        return []
    conditions = []
    if rows.after > FIRST_PLACE:
        conditions.append("rowid > :after")
    if rows.last < LAST_PLACE:
        conditions.append("rowid <= :last")
    where = f" where {' and '.join(conditions)}" if conditions else ""
    within = "" if period == ALWAYS else _WITHIN_OR_DAMAGED
    if rows.day is not None:
        within += " and day = :day"
    columns = source.removeprefix("select ") + where
    text = query.format(columns=columns, source=source, within=within)
    values = rows._asdict() | period.bounds
    # Accepting damaged text takes a tenth longer, so it is the second try.
    database.text_factory = str
    try:
        return database.execute(text, values).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    finally:
        database.text_factory = any_text
    return database.execute(text, values).fetchall()


def _turn(  # noqa: PLR0913, PLR0917 - the columns of the query
    day: str,
    tier: Any,
    task: Any,
    model: Any,
    rule: Any,
    rollout: Any,
    cached: int,
    extracted: str | None,
    time: str,
    inputs: int | None,
    outputs: int | None,
    ms: int | None,
    first_output: int | None,
    details: str | None,
) -> LoggedTurn:
    """Return the request of a row. Raises ValueError, TypeError or AttributeError."""
    special = None
    if cached and inputs == outputs == 0:
        special = _earlier_tokens(details or "")
        inputs, outputs = (inputs, outputs) if special else (None, None)
    elif details is not None and inputs is not None and outputs is not None:
        special = count_tokens(inputs, outputs, details, model)
    if extracted is None:
        raise ValueError("damaged JSON")
    datetime.fromisoformat(time)
    _check_day(time[:10])
    for number in (inputs, outputs, ms, first_output):
        if number is not None and (type(number) is not int or number < 0):
            raise ValueError(f"not a count: {number!r}")
    route = _route(tier, task, model, rule, rollout, cached, extracted)
    return LoggedTurn(day, route, time, inputs, outputs, ms, first_output, special)


@lru_cache(maxsize=10_000)
def _check_day(day: str) -> None:
    date.fromisoformat(day)


@lru_cache(maxsize=10_000, typed=True)
def _route(  # noqa: PLR0913, PLR0917 - the columns of the query
    tier: Any, task: Any, model: Any, rule: Any, rollout: Any, cached: int, extracted: str
) -> Route:
    *versions, place, price, reason = json.loads(extracted)
    own = ConfigPrice.from_json(price)
    version = next(filter(None, versions), None)
    return Route(
        tier=tier and str(tier),
        task=task and str(task),
        model=model and str(model),
        rule=rule and str(rule),
        rollout=rollout and str(rollout),
        version=version and str(version),
        fallback=reason and without_numbers(str(reason)),
        cached=bool(cached),
        place=place_of(model and str(model), place),
        price=own and own.to_text(),
    )


def _earlier_tokens(details: str) -> Tokens | None:
    """Return the tokens of the answer that was repeated, or None if it is no longer in the log."""
    counts = details.split()
    if len(counts) != 2 or not all(map(str.isdecimal, counts)):
        return None
    return Tokens(int(counts[0]), int(counts[1]))


def earliest(first: tuple[Any, Any] | None) -> datetime | None:
    """Return the time of the row that `first_request` gave, or None if unknown."""
    try:
        return first and parse_time(first[1])
    except (ValueError, TypeError):
        return None
