"""What all processes together have spent on the cloud through `tiered`; budgets need it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..log.database import as_logged, reading, select_from
from ..log.record import sql, sql_at
from .charges import LoggedUsage, cost_of_usage
from .prices import IS_LOCAL_SQL, VERSION_PATHS
from .requests import DETAILS

if TYPE_CHECKING:
    from pathlib import Path

# The id of a turn has the time when its response was created, `datetime_utc` when the model was
# asked. They are close, unless the clock was set in between.
_SLACK = timedelta(days=1)

# Text that sorts after any id.
_NO_ID = "~"

# A request waits for this query, so it selects rows by their ids, which are in order of time, and
# lets the database add them up. A request that must be priced on its own is its own group.
_SPENT = f"""
select datetime_utc >= :day and datetime_utc < :end, datetime_utc >= :month and datetime_utc < :end,
    substr(datetime_utc, 1, 10) as utc_day, resolved_model,
    coalesce({", ".join(sql_at(path) for path in VERSION_PATHS)}) as version,
    {DETAILS.strip()} as details,
    typeof(input_tokens) = 'integer' and typeof(output_tokens) = 'integer'
        and input_tokens >= 0 and output_tokens >= 0 as counted,
    count(*), sum(input_tokens), sum(output_tokens)
from ({{source}})
where id >= :first_id and id < :end_id and model = 'tiered'
    and (resolved_model is null or not {IS_LOCAL_SQL})
    and {sql("cached_from")} is null
group by 1, 2, utc_day, resolved_model, version, counted, case when details is not null then id end
"""  # noqa: S608 - our own words


@dataclass(frozen=True)
class Spent:
    """Dollars spent on the cloud since the start of the day and of the month.

    `unpriced` is the number of requests that are not included, because the price of the model, the
    tokens or the time is unknown.
    """

    day: Decimal = Decimal(0)
    month: Decimal = Decimal(0)
    unpriced: int = 0


class _Selection(NamedTuple):
    """The rows to add up; times and ids are written as in the log."""

    database_path: Path
    day: str
    month: str
    end: str
    first_id: str
    end_id: str


class _Group(NamedTuple):
    """A row of the query: requests that can be priced together."""

    today: int | None
    this_month: int | None
    utc_day: Any
    model: str | None
    version: str | None
    token_details: str | None
    counted: int
    requests: int
    input_tokens: int
    output_tokens: int

    @property
    def cost(self) -> Decimal | None:
        """Dollars, or None if unknown."""
        if not self.counted:
            return None
        return cost_of_usage(
            LoggedUsage(
                model=self.model,
                version=self.version,
                datetime_utc=self.utc_day,
                input_tokens=self.input_tokens,
                output_tokens=self.output_tokens,
                token_details=self.token_details,
                requests=self.requests,
            )
        )


def period_starts(now: datetime | None = None) -> tuple[datetime, datetime]:
    """Return when this day and this month began, in this machine's time zone."""
    today = (now or datetime.now(timezone.utc)).astimezone().date()
    day, month = (datetime.combine(on, time()).astimezone() for on in (today, today.replace(day=1)))
    return day, month


def read_spent(database_path: Path, *, day: datetime, month: datetime) -> Spent:
    """Return what was spent since each of two aware times; nothing if there is no log yet.

    Only logged requests are counted. Requests dated later than the day after `day` are left out:
    a clock must have been wrong. Raises TieredError if the log can't be read.
    """
    if not database_path.exists():
        return Spent()
    first, recent = _id_at(min(day, month) - _SLACK), _id_at(day - _SLACK)
    selection = _Selection(
        database_path,
        day=as_logged(day),
        month=as_logged(month),
        end=as_logged(day + 2 * _SLACK),
        first_id=max(first, recent),
        end_id=_NO_ID,
    )
    latest = _add_up(selection)
    if first >= recent:
        return latest
    past_days = selection._replace(first_id=first, end_id=recent)
    earlier = _add_up_once(past_days, database_path.stat().st_ino)
    return Spent(
        latest.day + earlier.day, latest.month + earlier.month, latest.unpriced + earlier.unpriced
    )


@lru_cache(maxsize=4)
def _add_up_once(selection: _Selection, _inode: int) -> Spent:
    """Add up days that are over, once: nothing more is logged for them."""
    return _add_up(selection)


def _add_up(selection: _Selection) -> Spent:
    day = month = Decimal(0)
    unpriced = 0
    with reading(selection.database_path) as database:
        source = select_from(database, "turns")
        query = _SPENT.format(source=source)
        rows = database.execute(query, selection._asdict()) if source else ()
        for group in map(_Group._make, rows):
            if not group.today and not group.this_month and _is_day(group.utc_day):
                continue
            cost = group.cost
            if cost is None:
                unpriced += group.requests
                continue
            day += cost if group.today else 0
            month += cost if group.this_month else 0
    return Spent(day, month, unpriced)


def _is_day(text: Any) -> bool:
    try:
        date.fromisoformat(text)
    except (ValueError, TypeError):
        return False
    return True


def _id_at(moment: datetime) -> str:
    """Return the lowest id that llm gives to a response at that moment."""
    from ulid import ULID

    milliseconds = max(0, int(moment.timestamp() * 1000))
    return str(ULID.from_int(milliseconds << 80)).lower()
