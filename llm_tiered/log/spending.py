"""What `tiered` has spent in the cloud, by every process that logs. For budgets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from . import prices, turns

if TYPE_CHECKING:
    from pathlib import Path

# An id is made with the response, its time is taken when the model is asked. Between the two lies
# next to nothing, unless the clock was set.
_SLACK = timedelta(days=1)

# A request waits for this, so the rows are found by their ids, which are in order of time, and
# summed up in the database. What has to be priced by itself is a group by itself.
_SPENT = f"""
select datetime_utc >= :day and datetime_utc < :end, datetime_utc >= :month and datetime_utc < :end,
    substr(datetime_utc, 1, 10) as on_day, resolved_model,
    case when json_valid(response_json) then json_extract(response_json, '$.response.modelVersion')
    end as version,
    case when input_tokens > {prices.LONG_PROMPT} or instr(token_details, 'AUDIO')
    then coalesce(token_details, '') end as details,
    typeof(input_tokens) = 'integer' and typeof(output_tokens) = 'integer'
        and input_tokens >= 0 and output_tokens >= 0 as counted,
    count(*), sum(input_tokens), sum(output_tokens),
    sum(case when instr(token_details, 'cachedContentTokenCount') and json_valid(token_details)
        then json_extract(token_details, '$.cachedContentTokenCount') else 0 end)
from ({{source}})
where id >= :first_id and id < :last_id and model = 'tiered'
    and (resolved_model is null or resolved_model not glob '{prices.LOCAL_PREFIX}*')
    and not coalesce(json_valid(response_json)
                     and json_extract(response_json, '$.tiered.cached_from') is not null, 0)
group by 1, 2, on_day, resolved_model, version, counted, case when details is not null then id end
"""


@dataclass(frozen=True)
class Spent:
    """Dollars spent in the cloud since the beginning of the day and of the month.

    `unpriced` requests are not in them, because nobody knows what they cost: the model's price
    or the tokens are not known.
    """

    day: Decimal = Decimal(0)
    month: Decimal = Decimal(0)
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.day + other.day, self.month + other.month, self.unpriced + other.unpriced
        )


def starts(now: datetime | None = None) -> tuple[datetime, datetime]:
    """When this day and this month began, where this machine is."""
    today = (now or datetime.now(timezone.utc)).astimezone().date()
    day, month = (datetime.combine(on, time()).astimezone() for on in (today, today.replace(day=1)))
    return day, month


def spent(database_path: Path, *, day: datetime, month: datetime) -> Spent:
    """What was spent since these two moments, both aware; nothing if there is no log yet.

    Only what is logged is counted. Requests dated later than the day after `day` are the mistake
    of a clock, and are left out. Raises TieredError where the log can't be read.
    """
    if not database_path.exists():
        return Spent()
    first, recent = _id_at(min(day, month) - _SLACK), _id_at(day - _SLACK)
    times = (day, month, day + 2 * _SLACK)
    query = _Query(database_path, *map(turns.as_logged, times), max(first, recent), _NO_ID)
    if first >= recent:
        return _run(query)
    settled = query._replace(first_id=first, end_id=recent)
    return _run_once(settled, database_path.stat().st_ino) + _run(query)


class _Query(NamedTuple):
    database_path: Path
    day: str
    month: str
    end: str
    first_id: str
    end_id: str


@lru_cache(maxsize=4)
def _run_once(query: _Query, _inode: int) -> Spent:
    """The sums over days that are over: nothing is logged for them any more."""
    return _run(query)


def _run(query: _Query) -> Spent:
    day = month = Decimal(0)
    unpriced = 0
    with turns.reading(query.database_path) as database:
        source = turns.select_from(database, "turns")
        if source is None:
            return Spent()
        bounds = {name: str(value) for name, value in query._asdict().items()}
        for today, this_month, *group in database.execute(_SPENT.format(source=source), bounds):
            cost = _cost(*group)
            if cost is None:
                unpriced += group[_REQUESTS]
            ...
