"""What llm's log says of the requests to `tiered`, read-only.

An older llm logged into `responses`, llm 0.36 logs into `turns`; a log may have either or both.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from .. import gemini
from ..log.database import TABLES, any_text, as_logged, parse, select_from
from . import prices
from .periods import ALWAYS, Period

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

_Key = TypeVar("_Key", bound="Hashable")

# What requests can be grouped by.
By = Literal["day", "tier", "task", "model", "rollout"]
_KEYS = {
    None: "null",
    "day": "date(datetime_utc, 'localtime')",
    "tier": "case when json_valid(response_json) "
    "then json_extract(response_json, '$.tiered.tier') end",
    "task": "case when json_valid(response_json) "
    "then json_extract(response_json, '$.tiered.task') end",
    "model": "resolved_model",
    "rollout": "case when json_valid(response_json) "
    "then json_extract(response_json, '$.tiered.rollout.name') || "
    "case json_extract(response_json, '$.tiered.rollout.included') "
    "when 1 then ', rolled out' else ', as before' end end",
}


# First what many rows have in common, then what each has of its own. What the JSON says of the way
# is one text, which is parsed once for many rows; it is null where the JSON is broken, which would
# end the whole query. An answer out of the cache comes with the tokens that the earlier one took.
_TURNS = """
select {keys}, resolved_model,
    case when json_valid(response_json) then
        json_extract(response_json, '$.tiered.cached_from') is not null end,
    case when json_valid(response_json) then
        json_extract(response_json, '{version}', '$.tiered.attempts[0].reason')
    when response_json is null then '[null, null]' end,
    datetime_utc, input_tokens, output_tokens, duration_ms,
    case when json_valid(response_json) then json_extract(response_json, '$.tiered.ttft_ms') end,
    case when json_valid(response_json)
        and json_extract(response_json, '$.tiered.cached_from') is not null
        and input_tokens = 0 and output_tokens = 0
    then coalesce((
        select earlier.input_tokens || ' ' || earlier.output_tokens from ({source}) as earlier
        where earlier.id = json_extract(logged.response_json, '$.tiered.cached_from')
    ), '') else {details} end
from ({source}) as logged where model = 'tiered' {within}
"""

# The details of what can't be priced together with other requests, else null.
DETAILS = f"""
case when input_tokens > {prices.LONG_PROMPT} or instr(token_details, '{gemini.CACHED}')
    or instr(token_details, 'AUDIO') then coalesce(token_details, '') end
"""

_OTHERS = """
select coalesce(model, 'unknown'), count(*), total(input_tokens), total(output_tokens)
from ({source}) where model is not 'tiered' {within} group by model
"""

_FIRST = "select datetime_utc from ({source}) where model = 'tiered' {within} order by id limit 1"

# A row whose time nobody can read belongs to no period: it is handed out to be counted apart.
_WITHIN = """
and (datetime_utc >= :since and datetime_utc < :until
     or date(datetime_utc) is null or datetime_utc not like '____-__-__%')
"""

# What differs in reasons that are the same: "cooling down for 42 s more", "has 5,321 tokens",
# "$0.99 of $1.00 spent".
_VARIES = re.compile(r"\d[\d.,]*\s?(?=(?:s|ms|MB|GB|tokens)\b)|\$\d+(?:[.,]\d+)*\s?")

# After any year.
_NEVER = "a"


class Route(NamedTuple):
    """Who answered, and why; `key` is what requests are grouped by, the decided tier for one.

    `model` is the one that answered, `version` what the service calls it. `fallback` is why the
    first model did not answer, or None if it did. `cached` says that the answer came out of our
    own cache. Days are those of this machine's time zone.
    """

    key: str | None
    model: str | None
    version: str | None
    fallback: str | None
    cached: bool

    @property
    def local(self) -> bool:
        """Whether the model that answered runs on this machine."""
        return self.model is not None and prices.is_local(self.model)


@dataclass
class Requests:
    """Requests that took one route: a column for each thing that differs, a place for each request.

    Times are as the log has them, in UTC; durations and the times to the first output are
    milliseconds. `special` are the tokens of what has to be priced by itself; for an answer out
    of the cache, those of the earlier one. None is what the log does not know.
    """

    times: list[str] = field(default_factory=list)
    input_tokens: list[int | None] = field(default_factory=list)
    output_tokens: list[int | None] = field(default_factory=list)
    durations: list[int | None] = field(default_factory=list)
    first_outputs: list[int | None] = field(default_factory=list)
    special: list[prices.Tokens | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times)

    def split(self, keys: Sequence[_Key]) -> dict[_Key, Requests]:
        """The requests by their key; there is one for each."""
        if len(set(keys)) == 1:
            return {keys[0]: self}
        return {
            key: Requests(*(list(compress(column, chosen)) for column in vars(self).values()))
            for key in set(keys)
            if (chosen := [other == key for other in keys])
        }


class Others(NamedTuple):
    """What another model was asked."""

    model: str
    requests: int
    input_tokens: int
    output_tokens: int


def read(
    database: sqlite3.Connection, period: Period, by: By | None = None
) -> tuple[list[tuple[Route, Requests]], int]:
    """The requests to `tiered` in the period by their route, and the number of unreadable rows."""
    [found] = read_by(database, period, [by])
    return found


def read_by(
    database: sqlite3.Connection, period: Period, bys: Sequence[By | None]
) -> list[tuple[list[tuple[Route, Requests]], int]]:
    """What `read` gives for each of these, in one pass over the log."""
    # To take any text costs a tenth of a second, and only a damaged log needs it.
    database.text_factory = str
    try:
        return _read(database, period, bys)
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    finally:
        database.text_factory = any_text
    return _read(database, period, bys)


def _read(
    database: sqlite3.Connection, period: Period, bys: Sequence[By | None]
) -> list[tuple[list[tuple[Route, Requests]], int]]:
    keys = ", ".join(_KEYS[by] for by in bys)
    rows = _select(
        database, _TURNS, period, keys=keys, version=gemini.VERSION_PATH, details=DETAILS
    )
    if len(bys) == 1:
        return [_routed(rows)]
    kept = list(rows)
    return [_routed((row[place], *row[len(bys) :]) for row in kept) for place in range(len(bys))]


def _routed(rows: Iterable[tuple[Any, ...]]) -> tuple[list[tuple[Route, Requests]], int]:
    found: defaultdict[tuple[Any, ...], Requests] = defaultdict(Requests)
    unreadable = 0
    for key, model, cached, extracted, time, *counts, ms, first_output, details in rows:
        inputs, outputs = counts
        try:
            if cached and inputs == outputs == 0:
                special = _earlier(details)
                inputs, outputs = (inputs, outputs) if special else (None, None)
            else:
                special = None if details is None else _special(inputs, outputs, details)
        except (ValueError, TypeError, AttributeError):
            unreadable += 1
            continue
        requests = found[key, model, cached, extracted]
        requests.times.append(time)
        requests.input_tokens.append(inputs)
        requests.output_tokens.append(outputs)
        requests.durations.append(ms)
        requests.first_outputs.append(first_output)
        requests.special.append(special)
    routed = []
    for (key, model, cached, extracted), requests in found.items():
        readable = None if extracted is None else _readable(requests)
        unreadable += len(requests) - (len(readable) if readable else 0)
        if readable:
            routed.append((_route(key, model, cached, extracted), readable))
    return routed, unreadable


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


def without_numbers(reason: str) -> str:
    """A reason without what differs from one time to the next, so that equal ones are equal."""
    return _VARIES.sub("… ", reason).rstrip()


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


def _route(key: str | None, model: str | None, cached: int | None, extracted: str) -> Route:
    version, reason = json.loads(extracted)
    return Route(
        key=key and str(key),
        model=model and str(model),
        version=version and str(version),
        fallback=reason and without_numbers(str(reason)),
        cached=bool(cached),
    )


def _readable(requests: Requests) -> Requests | None:
    """Those whose times are times, and whose numbers are such numbers; None if none are."""
    if _sound(requests):
        return requests
    each = zip(*vars(requests).values(), strict=True)
    sound = [_sound(Requests(*([value] for value in row))) for row in each]
    return requests.split(sound).get(True)


def _sound(requests: Requests) -> bool:
    # As columns: one after the other would take several times as long.
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


def _earlier(details: str) -> prices.Tokens | None:
    """The tokens of the answer that was repeated, or None if the log no longer has it."""
    counts = details.split()
    if len(counts) != 2 or not all(map(str.isdecimal, counts)):
        return None
    return prices.Tokens(*map(int, counts))


def _special(inputs: int | None, outputs: int | None, details: str) -> prices.Tokens | None:
    return None if inputs is None or outputs is None else prices.count(inputs, outputs, details)
