"""Sums over the requests in llm's log, kept in a database of our own.

The rows of the log are in blocks, each with a digest of its rows and its own sums: those are taken
away again when the block has changed. It holds times, ids, numbers, names of models, tiers and
tasks, and why requests fell back; nothing that was said.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import TieredError
from ..log.own_database import open_own
from ..log.version import LogVersion
from . import summed
from .requests import FIRST_PLACE
from .sums import Sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Seconds to wait for another process that is writing.
PATIENCE = 60.0

_TABLES = ("state", "blocks", "block_days", "days", *summed.TABLES)

_SCHEMA = """
create table state (name text primary key, value text not null) without rowid;
create table blocks (
    source text not null, last integer not null, rows integer not null, digest blob not null,
    highest_id, first_id, first_time, sums blob not null,
    primary key (source, last)
);
create index highest_ids on blocks (source, highest_id);
create table block_days (
    source text not null, last integer not null, day text not null,
    low, high, first, latest,
    primary key (day, source, last)
) without rowid;
create index days_of_blocks on block_days (source, last);
create table days (day text primary key, low, high, first, latest) without rowid;
"""

# Which days of the log are in a period, and how. The times of a day are compared as text, as the
# log's own are.
_DAYS = """
select day, case
    when day <> '' and not :always and (high < :since or low >= :until) then 'out'
    when latest > :now then 'rows'
    when day = '' or :always or (low >= :since and high < :until) then 'whole'
    else 'rows' end, first
from days
"""

# The rowid before the first one of a block.
_AFTER = f"""
coalesce((
    select max(last) from blocks as earlier
    where earlier.source = {{block}}.source and earlier.last < {{block}}.last
), {FIRST_PLACE})
"""  # noqa: S608 - our own words


class SumsUnavailable(TieredError):
    """The sums can't be read or written."""


@dataclass
class Bounds:
    """The first and last times of a day, as text: those of all rows, and of sound requests."""

    low: Any = None
    high: Any = None
    first: str | None = None
    latest: str | None = None


class Block(NamedTuple):
    """A block of rows of one table, up to the rowid `last`, and what is kept of it.

    `highest_id` is the highest id of any row. `first_request` is the lowest id of a request to
    `tiered`, and its time.
    """

    source: str
    last: int
    rows: int
    digest: bytes
    highest_id: Any
    first_request: tuple[Any, Any] | None
    days: dict[str, Bounds]
    sums: Sums


class BlockPlace(NamedTuple):
    """A place in the log: all rows up to there, of the tables before this one too."""

    source: str
    last: int


START = BlockPlace("", FIRST_PLACE)


class State(NamedTuple):
    """Of which version of the log these are the sums.

    `ends` are the highest rowids of that version, by table. The blocks after `unchecked` have yet
    to be compared with the log, none if it is None. `next_check` is where the next routine
    comparison begins.
    """

    version: LogVersion
    ends: dict[str, int]
    unchecked: BlockPlace | None = None
    next_check: BlockPlace = START


class KnownBlock(NamedTuple):
    """A block in the database: the rows of a table after one rowid, up to another one."""

    source: str
    after: int
    last: int
    rows: int
    digest: bytes


class SumsStore:
    """The database in a file, or in memory if there is no path; a context manager.

    Sums made in another way, with another `stamp`, are deleted. Every method raises SumsUnavailable
    if the file can't be used; a damaged file is deleted.
    """

    def __init__(self, path: Path | None, stamp: str) -> None:
        self.path = path
        self._stamp = stamp

    def __enter__(self) -> SumsStore:
        schema = [f"drop table if exists {table}" for table in _TABLES]
        schema += (_SCHEMA + summed.SCHEMA).split(";")
        # SQLite has room for a positive number.
        version = zlib.crc32(self._stamp.encode()) >> 1
        with self.errors_explained():
            self._database = open_own(self.path, PATIENCE, version, schema)
        self.summed = summed.SummedTables(self._database)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the database during the block."""
        yield from self._transaction("begin")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let nobody else write during the block; undo what it wrote if it raises."""
        yield from self._transaction("begin immediate")

    @contextmanager
    def errors_explained(self) -> Iterator[None]:
        """Raise SumsUnavailable if the file can't be used during the block."""
        try:
            yield
        except (sqlite3.Error, OSError, zlib.error, ValueError, LookupError) as error:
            # Exactly this class means damage; locked, full and so on are subclasses.
            damaged = type(error) is sqlite3.DatabaseError
            damaged |= not isinstance(error, (sqlite3.Error, OSError))
            if damaged and self.path:
                with suppress(OSError):
                    self.path.unlink()
                    self.path.with_name(f"{self.path.name}-journal").unlink()
            raise SumsUnavailable(f"{self.path} can't be used: {error}") from error

    def state(self) -> State | None:
        """Return the version of the log that has been summed up, or None if none has."""
        text = self._get("state")
        if text is None:
            return None
        version, ends, unchecked, next_check = json.loads(text)
        pending = BlockPlace(*unchecked) if unchecked else None
        return State(LogVersion(*version), ends, pending, BlockPlace(*next_check))

    def set_state(self, state: State) -> None:
        """Record the version of the log that has been summed up."""
        self._put("state", json.dumps(state))

    def end_of(self, source: str) -> int:
        """Return the last rowid that is in a block of this table."""
        [(last,)] = self._rows("select max(last) from blocks where source = ?", (source,))
        return FIRST_PLACE if last is None else int(last)

    def blocks_after(self, place: BlockPlace, rows: int) -> list[KnownBlock]:
        """Return the next blocks, with as many rows or a few more."""
        return self._blocks("source > ?1 or (source = ?1 and last > ?2)", place, rows)

    def blocks_with_ids_from(self, source: str, id_: Any, rows: int) -> list[KnownBlock]:
        """Return blocks that may have this id or a higher one, with as many rows or a few more."""
        return self._blocks("source = ?1 and highest_id >= ?2", (source, id_), rows)

    def remove(self, source: str, last: int) -> Sums:
        """Remove a block, and return its sums, which are to be taken away from all sums."""
        where, values = "where source = ? and last = ?", (source, last)
        [(packed,)] = self._rows(f"select sums from blocks {where}", values)  # noqa: S608 - our own words
        self._rows(f"delete from blocks {where}", values)  # noqa: S608 - our own words
        days = [day for (day,) in self._rows(f"select day from block_days {where}", values)]  # noqa: S608 - our own words
        self._rows(f"delete from block_days {where}", values)  # noqa: S608 - our own words
        self._update_days(days)
        with self.errors_explained():
            return Sums.from_json(zlib.decompress(packed).decode())

    def put(self, blocks: Iterable[Block]) -> None:
        """Add blocks, whose sums are yet to be added to all sums."""
        changed: set[str] = set()
        for block in blocks:
            packed = zlib.compress(block.sums.to_json().encode(), 1)
            first = block.first_request or (None, None)
            values = (*block[:5], *first, packed)
            self._rows("insert into blocks values (?, ?, ?, ?, ?, ?, ?, ?)", values)
            for day, bounds in block.days.items():
                row = (*block[:2], day, *vars(bounds).values())
                self._rows("insert into block_days values (?, ?, ?, ?, ?, ?, ?)", row)
            changed |= set(block.days)
        self._update_days(changed)

    def days(self, bounds: dict[str, str], now: str, *, always: bool) -> list[tuple[str, str, Any]]:
        """Return each day of the log, how it is in a period, and the time of its first request.

        A day is "out" of the period, in it as a "whole", or its "rows" have to be looked at; the
        latter also if it has times after `now`.
        """
        return self._rows(_DAYS, bounds | {"now": now, "always": always})

    def blocks_of(self, day: str) -> list[tuple[str, int, int]]:
        """Return the table, the rowid before the first and the last one of blocks with this day."""
        query = f"""
            select source, {_AFTER.format(block="block_days")}, last from block_days where day = ?
        """  # noqa: S608 - our own words
        return self._rows(query, (day,))

    def first_request(self, source: str) -> tuple[Any, Any] | None:
        """Return the lowest id of a request to `tiered` in the blocks of a table, and its time."""
        query = """
            select first_id, first_time from blocks
            where source = ? and (first_id is not null or first_time is not null)
            order by first_id limit 1
        """
        return next(iter(self._rows(query, (source,))), None)

    def _blocks(self, which: str, values: tuple[Any, ...], rows: int) -> list[KnownBlock]:
        query = f"""
            select source, {_AFTER.format(block="blocks")}, last, rows, digest from blocks
            where {which} order by source, last
        """  # noqa: S608 - our own words
        blocks: list[KnownBlock] = []
        with self.errors_explained():
            for row in self._database.execute(query, values):
                blocks.append(KnownBlock(*row))
                rows -= blocks[-1].rows
                if rows <= 0:
                    break
        return blocks

    def _update_days(self, days: Iterable[str]) -> None:
        for day in days:
            self._rows("delete from days where day = ?", (day,))
            self._rows(
                "insert into days select day, min(low), max(high), min(first), max(latest) "
                "from block_days where day = ? group by day",
                (day,),
            )

    def _get(self, name: str) -> str | None:
        rows = self._rows("select value from state where name = ?", (name,))
        return rows[0][0] if rows else None

    def _put(self, name: str, value: str) -> None:
        self._rows("insert or replace into state values (?, ?)", (name, value))

    def _rows(self, query: str, values: tuple[Any, ...] | dict[str, Any] = ()) -> list[Any]:
        with self.errors_explained():
            return self._database.execute(query, values).fetchall()

    def _transaction(self, begin: str) -> Iterator[None]:
        self._rows(begin)
        try:
            yield
        except BaseException:
            with suppress(SumsUnavailable):
                self._rows("rollback")
            raise
        self._rows("commit")
