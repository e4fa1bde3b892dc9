"""What `tiered` has spent in the cloud, by every process that logs. For budgets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import gemini
from ..log import database as log_database
from . import prices

if TYPE_CHECKING:
    from pathlib import Path

# An id is made with the response, its time is taken when the model is asked. Between the two lies
# next to nothing, unless the clock was set.
_SLACK = timedelta(days=1)

# After any id.
_NO_ID = "~"

# A request waits for this, so the rows are found by their ids, which are in order of time, and
# summed up in the database. What has to be priced by itself is a group by itself.
_SPENT = f"""
select datetime_utc >= :day and datetime_utc < :end, datetime_utc >= :month and datetime_utc < :end,
    substr(datetime_utc, 1, 10) as on_day, resolved_model,
    case when json_valid(response_json) then json_extract(response_json, '{gemini.VERSION_PATH}')
    end as version,
    case when input_tokens > {prices.LONG_PROMPT} or instr(token_details, 'AUDIO')
    then coalesce(token_details, '') end as details,
    typeof(input_tokens) = 'integer' and typeof(output_tokens) = 'integer'
        and input_tokens >= 0 and output_tokens >= 0 as counted,
    count(*), sum(input_tokens), sum(output_tokens),
    sum(case when instr(token_details, '{gemini.CACHED}') and json_valid(token_details)
        then json_extract(token_details, '$.{gemini.CACHED}') else 0 end)
from ({{source}})
where id >= :first_id and id < :end_id and model = 'tiered'
    and (resolved_model is null or resolved_model not glob '{prices.LOCAL_PREFIX}*')
    and case when json_valid(response_json)
        then json_extract(response_json, '$.tiered.cached_from') is null else 1 end
group by 1, 2, on_day, resolved_model, version, counted, case when details is not null then id end
"""  # noqa: S608 - our own words


@dataclass(frozen=True)
class Spent:
    """Dollars spent in the cloud since the beginning of the day and of the month.

    `unpriced` requests are not in them, because nobody knows what they cost: the price of the
    model, the tokens or the time is not known.
    """

    day: Decimal = Decimal(0)
    month: Decimal = Decimal(0)
    unpriced: int = 0


class _Question(NamedTuple):
    """Which rows to add up. Times and ids are as the log has them."""

    database_path: Path
    day: str
    month: str
    end: str
    first_id: str
    end_id: str


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
    question = _Question(
        database_path,
        day=log_database.as_logged(day),
        month=log_database.as_logged(month),
        end=log_database.as_logged(day + 2 * _SLACK),
        first_id=max(first, recent),
        end_id=_NO_ID,
    )
    found = _add_up(question)
    if first >= recent:
        return found
    settled = question._replace(first_id=first, end_id=recent)
    before = _add_up_once(settled, database_path.stat().st_ino)
    return Spent(
        found.day + before.day, found.month + before.month, found.unpriced + before.unpriced
    )


@lru_cache(maxsize=4)
def _add_up_once(question: _Question, _inode: int) -> Spent:
    """The sums over days that are over: nothing is logged for them any more."""
    return _add_up(question)


def _add_up(question: _Question) -> Spent:
    day = month = Decimal(0)
    unpriced = 0
    with log_database.reading(question.database_path) as database:
        source = log_database.select_from(database, "turns")
        query = _SPENT.format(source=source)
        groups = database.execute(query, question._asdict()) if source else ()
        for today, this_month, on, *group in groups:
            if not today and not this_month and _is_day(on):
                continue
            cost = _cost(on, *group)
            if cost is None:
                unpriced += group[4]
                continue
            day += cost if today else 0
            month += cost if this_month else 0
    return Spent(day, month, unpriced)


def _cost(  # noqa: PLR0913, PLR0917 - columns of the query
    on: Any,
    model: str | None,
    version: str | None,
    details: str | None,
    counted: int,
    requests: int,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int,
) -> Decimal | None:
    if not model or not counted or not _is_day(on):
        return None
    try:
        tokens = prices.Tokens(input_tokens, output_tokens, cached_tokens)
        if details is not None:
            tokens = prices.count(input_tokens, output_tokens, details)
    except (ValueError, TypeError, AttributeError):
        return None
    known = prices.price_list(prices.with_version(model, version), date.fromisoformat(on))
    return None if known is None else known.cost(tokens, requests)


def _is_day(text: Any) -> bool:
    try:
        date.fromisoformat(text)
    except (ValueError, TypeError):
        return False
    return True


def _id_at(moment: datetime) -> str:
    """The lowest id that llm gives a response at that moment."""
    from ulid import ULID

    milliseconds = max(0, int(moment.timestamp() * 1000))
    return str(ULID.from_int(milliseconds << 80)).lower()
