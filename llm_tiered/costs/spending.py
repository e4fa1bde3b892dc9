"""What all processes together have spent on the cloud through `tiered`; budgets need it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config.price import ConfigPrice
from ..log.database import reading, select_from
from ..log.record import sql, sql_at
from ..paths import ledger_path
from .charges import LoggedUsage, charge_for_usage
from .ledger import CopiedTo, Entry, Ledger, Spent
from .periods import start_of_day
from .prices import IS_LOCAL_SQL, VERSION_PATHS

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

# The id of a turn has the time when its response was created, `datetime_utc` when the model was
# asked. They are close, unless the clock was set in between.
_SLACK = timedelta(days=1)

# The log is read again from the mark with each request, so the mark follows after some turns.
_AT_MOST = 100

# Turns that came into the log after the mark. Rowids are in the order of logging, unlike ids, which
# a turn brings along from another log.
_NEW = f"""
select id from (select rowid as place, {{columns}}) where place > :rowid and id >= :first_id
    and model = 'tiered' and (resolved_model is null or not {IS_LOCAL_SQL})
    and ({sql("place")} is null or {sql("place")} not in ('here', 'own'))
"""  # noqa: S608 - our own words

_LAST = "select rowid, id from turns order by rowid desc limit 1"

_TURN = f"""
select datetime_utc, resolved_model,
    coalesce({", ".join(sql_at(path) for path in VERSION_PATHS)}) as version,
    input_tokens, output_tokens, token_details, {sql("cached_from")}, {sql("price")}, duration_ms
from ({{source}}) where id = ?
"""  # noqa: S608 - our own words


class _Turn(NamedTuple):
    """A turn in the log; text, unless it is damaged."""

    datetime_utc: Any
    model: str | None
    version: str | None
    input_tokens: Any
    output_tokens: Any
    token_details: str | None
    cached_from: str | None
    price: Any
    duration_ms: Any

    def entry(self, turn_id: str) -> Entry:
        """Return the entry that stands for this turn."""
        charge = charge_for_usage(
            LoggedUsage(
                self.model,
                self.version,
                self.datetime_utc,
                self.input_tokens,
                self.output_tokens,
                self.token_details,
                price=ConfigPrice.from_text(self.price),
                ms=self.duration_ms,
            )
        )
        at = _time(self.datetime_utc) or _time_of_id(turn_id)
        amount = charge.dollars if charge else None
        complete = charge is not None and not charge.unpriced
        return Entry(turn_id, 0, at, str(self.model), amount, complete, answer=True)


def period_starts(now: datetime | None = None) -> tuple[datetime, datetime]:
    """Return when this day and this month began, in this machine's time zone."""
    today = (now or datetime.now(timezone.utc)).astimezone().date()
    return start_of_day(today), start_of_day(today.replace(day=1))


def read_spent(log: Path, *, day: datetime, month: datetime) -> Spent:
    """Return what was spent since each of two aware times, by requests in the log or in no log.

    Raises TieredError if the log or the ledger can't be read.
    """
    if not log.exists() and not ledger_path().exists():
        return Spent()
    with Ledger(ledger_path()) as ledger:
        copy_log(log, ledger, since=min(day, month))
        return ledger.spent(day, month)


def copy_log(log: Path, ledger: Ledger, *, since: datetime) -> None:
    """Copy the turns since then that the ledger does not have. Raises TieredError."""
    if not log.exists():
        return
    first_id = _id_at(since - _SLACK)
    with reading(log) as database:
        source = select_from(database, "turns")
        if source is None:
            return
        mark = ledger.copied_to()
        if mark and (mark.first_id > first_id or not _is_there(database, mark)):
            mark = None
        values = mark._asdict() if mark else {"rowid": -1, "first_id": first_id}
        query = _NEW.format(columns=source.removeprefix("select "))
        turns = [turn_id for (turn_id,) in database.execute(query, values)]
        new = [turn_id for turn_id in turns if not ledger.has_answer(turn_id)]
        entries = []
        for turn_id in new:
            turn = _Turn(*database.execute(_TURN.format(source=source), (turn_id,)).fetchone())
            if turn.cached_from is None:
                entries.append(turn.entry(turn_id))
        last = database.execute(_LAST).fetchone()
    if last is None or (not new and mark and last[0] - mark.rowid < _AT_MOST):
        return
    with ledger.writing():
        for entry in entries:
            if not ledger.has_answer(entry.response_id):
                ledger.drop(entry.response_id)
                ledger.put([entry])
        first_id = min(first_id, mark.first_id) if mark else first_id
        rowid, turn_id = last
        ledger.set_copied_to(CopiedTo(rowid, turn_id, first_id))


def _is_there(database: sqlite3.Connection, mark: CopiedTo) -> bool:
    """Whether the log is still the one that was marked: not replaced, nor its last turn deleted."""
    row = database.execute("select id from turns where rowid = ?", (mark.rowid,)).fetchone()
    return row is not None and row[0] == mark.turn_id


def _time(datetime_utc: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(datetime_utc)
    except (ValueError, TypeError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _time_of_id(turn_id: str) -> datetime:
    from ulid import ULID

    try:
        time: datetime = ULID.from_str(turn_id.upper()).datetime
    except ValueError:
        return datetime.now(timezone.utc)
    return time


def _id_at(moment: datetime) -> str:
    """Return the lowest id that llm gives to a response at that moment."""
    from ulid import ULID

    milliseconds = max(0, int(moment.timestamp() * 1000))
    return str(ULID.from_int(milliseconds << 80)).lower()
