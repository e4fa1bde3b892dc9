"""What requests to the cloud cost, written down while they are made: a database beside llm's log.

llm logs a response when it is complete, and a chain of tools when all of it is; what fails or is
broken off, it never logs. The service charges for all of that. Each attempt is held here with its
expected cost before it is sent, and settled when it is over. What only the log has, such as turns
from before this database, is copied from there, so that every request is here once.

It holds times, ids, numbers and names of models, no text.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, NamedTuple

from ..errors import TieredError
from ..log.own_database import open_own
from ..log.version import LogVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Seconds to wait for another process that is writing.
PATIENCE = 5.0

# How long entries are kept. Budgets need a month, reports have the rest from the log.
KEPT = timedelta(days=400)

# Amounts are whole numbers of this part of a dollar, so that the database can add them up exactly.
_PART = Decimal("1e-12")

# A request for more than a million dollars is a mistake in what the service reported.
_ABSURD = Decimal(1_000_000)

# The length of the periods whose totals are kept, in milliseconds.
_HOUR = 3_600_000

_ADD = f"""
insert into totals
values (new.at / {_HOUR}, ifnull(new.amount, 0), new.amount is null or not new.complete)
on conflict do update set
    amount = amount + excluded.amount, unpriced = unpriced + excluded.unpriced;
"""  # noqa: S608 - our own words

_TAKE = f"""
update totals set amount = amount - ifnull(old.amount, 0),
    unpriced = unpriced - (old.amount is null or not old.complete)
where hour = old.at / {_HOUR};
"""  # noqa: S608 - our own words

_VERSION = 2

# Version 1 had neither totals nor what is known of the log. Triggers keep the totals, so that they
# are right whatever is written.
_SCHEMA = (
    """
    create table if not exists entries (
        response_id text not null,
        attempt integer not null,
        at integer not null,
        model text not null,
        amount integer,
        complete integer not null,
        answer integer not null,
        held integer not null,
        primary key (response_id, attempt)
    ) without rowid
    """,
    "create index if not exists amounts on entries (at, amount, complete)",
    """
    create table if not exists mark (
        turn_rowid integer not null, turn_id text not null, first_id text not null
    )
    """,
    "alter table entries add column logged integer not null default 0",
    "create index unlogged on entries (at) where not logged",
    """
    create table seen (file text not null, transactions integer, turn_rowid integer not null)
    """,
    """
    create table totals (
        hour integer primary key, amount integer not null, unpriced integer not null
    )
    """,
    f"""
    insert into totals
    select at / {_HOUR}, ifnull(sum(amount), 0), sum(amount is null or not complete)
    from entries group by 1
    """,  # noqa: S608 - our own words
    f"create trigger added after insert on entries begin {_ADD} end",
    f"create trigger removed after delete on entries begin {_TAKE} end",
    f"create trigger changed after update of at, amount, complete on entries "
    f"begin {_TAKE} {_ADD} end",
)

_PUT = """
insert into entries values (?, ?, ?, ?, ?, ?, ?, ?, 0)
on conflict do update set at = excluded.at, model = excluded.model, amount = excluded.amount,
    complete = excluded.complete, answer = excluded.answer, held = excluded.held, logged = 0
"""

# Whole hours are added up from their totals, what is before and after them entry by entry.
_SUM = f"""
select sum(amount), total(unpriced) from (
    select amount, unpriced from totals where hour >= :first and hour < :last
    union all
    select amount, amount is null or not complete from entries
    where at >= :since and at < min(:until, :first * {_HOUR})
    union all
    select amount, amount is null or not complete from entries
    where at >= max(:first, :last) * {_HOUR} and at < :until
)
"""  # noqa: S608 - our own words

_BETWEEN = """
select response_id, attempt, at, model, amount, complete, answer, held from entries
where {which} and at >= ? and at < ? order by at, response_id, attempt
"""


@dataclass(frozen=True)
class Spent:
    """Dollars spent on the cloud since the start of the day and of the month.

    `unpriced` is the number of requests that are not included, or not with all that they cost,
    because the price of the model, the tokens or the time is unknown.
    """

    day: Decimal = Decimal(0)
    month: Decimal = Decimal(0)
    unpriced: int = 0


class Entry(NamedTuple):
    """One attempt of a request to the cloud.

    `attempt` counts from 1; 0 is an entry copied from the log. `amount` is in dollars, None if
    unknown; unless it is `complete`, more was used than has a known price. `answer` is whether its
    usage is that of the response, which llm may log. It is `held` while it runs, with the expected
    amount, and for good if the process was killed.
    """

    response_id: str
    attempt: int
    at: datetime
    model: str
    amount: Decimal | None
    complete: bool = True
    answer: bool = False
    held: bool = False


class CopiedTo(NamedTuple):
    """The last turn up to which the log was copied, and the first id that was looked at."""

    rowid: int
    turn_id: str
    first_id: str


class LogSeen(NamedTuple):
    """The version of the log in which answers were looked for, and the last turn that it had."""

    version: LogVersion
    rowid: int


class Ledger:
    """The database in a file, as a context manager; creates the file if necessary.

    Every method raises TieredError if the file can't be used: what was spent is unknown then.
    Requests do not wait for the disk, which can take longer than all the rest: what is written
    survives the process, but perhaps not a power cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Ledger:
        with self._errors_explained():
            self._database = open_own(self.path, PATIENCE, _VERSION, _SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let nobody else write during the block; undo what it wrote if it raises."""
        with self._errors_explained():
            self._database.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._database.execute("rollback")
                raise
            self._database.execute("commit")

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries; one with the same id and attempt is replaced."""
        with self._errors_explained():
            self._database.executemany(_PUT, map(_row, entries))

    def remove(self, response_id: str, attempt: int) -> None:
        """Remove an entry: the attempt cost nothing."""
        with self._errors_explained():
            query = "delete from entries where response_id = ? and attempt = ?"
            self._database.execute(query, (response_id, attempt))

    def spent(self, day: datetime, month: datetime) -> Spent:
        """Return what was spent since each of two aware times.

        Entries dated later than the day after `day` are left out: a clock must have been wrong.
        """
        until = day + timedelta(days=2)
        (today, of_today), (this_month, of_month) = (
            self._sum(_stamp(since), _stamp(until)) for since in (day, month)
        )
        return Spent(today * _PART, this_month * _PART, max(of_today, of_month))

    def _sum(self, since: int, until: int) -> tuple[int, int]:
        """Return the amount spent between two times, and how many entries lack (part of) theirs."""
        hours = {"first": -(-since // _HOUR), "last": until // _HOUR}
        values = {"since": since, "until": until} | hours
        with self._errors_explained():
            amount, unpriced = self._database.execute(_SUM, values).fetchone()
        return amount or 0, int(unpriced)

    def between(
        self, since: datetime | None, until: datetime | None, *, unlogged: bool = False
    ) -> list[Entry]:
        """Return the entries of a period, in order of time; None is open.

        With `unlogged`, entries whose answer has been seen in the log are left out.
        """
        bounds = (_stamp(since) if since else 0, _stamp(until) if until else 1 << 62)
        query = _BETWEEN.format(which="not logged" if unlogged else "true")
        with self._errors_explained():
            return [_entry(*row) for row in self._database.execute(query, bounds)]

    def answers(self, *, logged: bool) -> list[str]:
        """Return the ids of responses that were seen in the log, or of those that may get there."""
        query = f"select response_id from entries where {'' if logged else 'answer and not'} logged"  # noqa: S608 - our own words
        with self._errors_explained():
            return [response_id for (response_id,) in self._database.execute(query)]

    def log_seen(self) -> LogSeen | None:
        """Return the version of the log in which the answers were seen."""
        with self._errors_explained():
            row = self._database.execute("select * from seen").fetchone()
        return LogSeen(LogVersion(*row[:2]), row[2]) if row else None

    def set_seen(self, log: LogSeen, ids: Iterable[str], gone: Iterable[str]) -> None:
        """Note which answers are in a version of the log now, and which no longer are."""
        query = "update entries set logged = ? where response_id = ? and answer"
        with self._errors_explained():
            self._database.executemany(query, [(1, each) for each in ids])
            self._database.executemany(query, [(0, each) for each in gone])
            self._database.execute("delete from seen")
            self._database.execute("insert into seen values (?, ?, ?)", (*log.version, log.rowid))

    def has_answer(self, response_id: str) -> bool:
        """Return whether there is an entry for what llm logs of a response."""
        query = "select 1 from entries where response_id = ? and answer"
        with self._errors_explained():
            return self._database.execute(query, (response_id,)).fetchone() is not None

    def drop(self, response_id: str) -> None:
        """Remove all attempts of a response that are still held."""
        query = "delete from entries where response_id = ? and held"
        with self._errors_explained():
            self._database.execute(query, (response_id,))

    def copied_to(self) -> CopiedTo | None:
        """Return how far the log was copied."""
        with self._errors_explained():
            row = self._database.execute("select * from mark").fetchone()
        return CopiedTo(*row) if row else None

    def forget_old(self, now: datetime) -> None:
        """Remove entries that nobody needs any more."""
        with self._errors_explained():
            before = _stamp(now - KEPT)
            self._database.execute("delete from entries where at < ?", (before,))
            self._database.execute("delete from totals where hour < ?", (before // _HOUR,))

    def set_copied_to(self, mark: CopiedTo) -> None:
        """Note how far the log was copied."""
        with self._errors_explained():
            self._database.execute("delete from mark")
            self._database.execute("insert into mark values (?, ?, ?)", mark)

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            damaged = "malformed" in str(error) or "not a database" in str(error)
            fix = "delete it; what llm's log has is counted again" if damaged else None
            if "locked" in str(error):
                fix = "try again in a moment"
            raise TieredError(
                f"{self.path}, where costs are counted, can't be used: {error}", fix=fix
            ) from error


def _row(entry: Entry) -> tuple[object, ...]:
    amount, parts = entry.amount, None
    if amount is not None and amount < _ABSURD:
        parts = int((amount / _PART).to_integral_value(ROUND_CEILING))
    return (*entry[:2], _stamp(entry.at), entry.model, parts, *entry[5:])


def _entry(
    response_id: str,
    attempt: int,
    at: int,
    model: str,
    amount: int | None,
    *flags: int,
) -> Entry:
    when = datetime.fromtimestamp(at / 1000, timezone.utc)
    dollars = None if amount is None else amount * _PART
    return Entry(response_id, attempt, when, model, dollars, *map(bool, flags))


def _stamp(time: datetime) -> int:
    return int(time.timestamp() * 1000)
