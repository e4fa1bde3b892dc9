"""Brings the sums over the requests in llm's log up to date before a report is made from them.

That nothing but new turns came into the log since the last time is seen by the number of
transactions that have changed it: llm adds each turn in one. If it is another number, all blocks of
rows are compared with the log, and those that differ are added up again. Some blocks are compared
each time, in turn, for those who change old rows in the same transaction as they add new ones.

The latest turns are in no block: reports add them up themselves.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..log.database import COLUMNS, TABLES, has_table, reading, select_from
from ..log.version import version_of_log
from ..paths import sums_folder
from .requests import DAY, EARLIER, FIRST_PLACE, Range, first_request, read_other_models, read_turns
from .store import START, Block, BlockPlace, Bounds, KnownBlock, State, SumsStore, SumsUnavailable
from .sums import Sums

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from ..log.version import LogVersion

T = TypeVar("T")

logger = logging.getLogger("llm_tiered")

# Raise it when sums are made or kept in a different way: those of another version are made anew.
VERSION = 4

# Rows in a block: many where many are added up, few where a log grows turn by turn. There are
# always at least as many latest turns as a small block has, and at most twice as many.
LARGE, SMALL = 512, 128

# Large blocks that are added up at a time. Nobody can write to the log meanwhile.
CHUNK = 64

# Rows that are compared at a time, and in each routine comparison: the latter is most of the time
# that it takes to bring sums up to date after a new turn.
COMPARED = 100_000
ROUTINE = LARGE

# Rows that are compared because of new ones with lower ids; if there are more, all rows are.
REPLACED = 10_000

# Sums of a log that was not looked at for so long are removed.
KEPT = timedelta(days=60)

_CONTENT_OF_ROW = " || '|' || ".join(f"ifnull(typeof({name}) || {name}, '')" for name in COLUMNS)

# The rows of a block, as bytes that differ whenever its sums may.
_CONTENT = f"""
select cast({_CONTENT_OF_ROW} || case when input_tokens = 0 and output_tokens = 0
    then ifnull({EARLIER}, '') else '' end as blob)
from ({{source}} where rowid > :after and rowid <= :last order by rowid) as logged
"""  # noqa: S608 - our own words

_BOUNDS = f"""
select {DAY} as day, min(datetime_utc), max(datetime_utc)
from ({{source}} where rowid > :after and rowid <= :last) group by 1
"""  # noqa: S608 - our own words

_ROWS_AND_ID = """
select count(*), max(id) from ({source} where rowid > :after and rowid <= :last)
"""


class CurrentSums(NamedTuple):
    """The sums of blocks of the log, and the rows that are in none; both as of the same moment."""

    log: sqlite3.Connection
    store: SumsStore
    latest: list[Range]


def with_sums(path: Path, use: Callable[[CurrentSums], T]) -> T:
    """Return what `use` makes of the sums of a log, which are brought up to date first.

    If they can't be kept, they are made for this once. Raises TieredError if the log can't be read.
    """
    stamp = f"{VERSION} {_version_of_prices()}"
    kept = _file_of(path)
    for place in (kept, kept, None):
        try:
            with SumsStore(place, stamp) as store, reading(path) as log:
                return use_current(log, path, store, use)
        except SumsUnavailable as error:
            logger.debug("%s", error)
            problem = error
    raise problem


def use_current(
    log: sqlite3.Connection, path: Path, store: SumsStore, use: Callable[[CurrentSums], T]
) -> T:
    """Bring the sums up to date, in steps between which others can write to the log, and use them.

    Raises SumsUnavailable, OSError or sqlite3.Error.
    """
    while True:
        with _snapshot(log):
            now = version_of_log(log, path)
            go_on = True
            while go_on:
                with store.reading():
                    if _is_current(log, store, now):
                        return use(CurrentSums(log, store, _latest(log, store)))
                with store.writing():
                    go_on = _step(log, store, now)


@contextmanager
def _snapshot(log: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the log during the block."""
    log.execute("begin")
    try:
        yield
    finally:
        log.execute("rollback")


def _is_current(log: sqlite3.Connection, store: SumsStore, now: LogVersion) -> bool:
    state = store.state()
    return (
        state is not None
        and state.version == now
        and state.unchecked is None
        and not any(_next_size(log, rows.table, rows.after) for rows in _latest(log, store))
    )


def _latest(log: sqlite3.Connection, store: SumsStore) -> list[Range]:
    return [Range(table, store.end_of(table)) for table in TABLES if has_table(log, table)]


def _step(log: sqlite3.Connection, store: SumsStore, now: LogVersion) -> bool:
    """Bring the sums nearer to this version, and return whether that took little time."""
    state = store.state()
    if state is None:
        store.set_state(State(now, _ends(log)))
        return True
    if state.version != now:
        store.set_state(_changed(log, store, state, now))
        return True
    if state.unchecked is not None:
        blocks = store.blocks_after(state.unchecked, COMPARED)
        store.set_state(state._replace(unchecked=_compare(log, store, blocks)))
        return False
    _add_blocks(log, store)
    return False


def _changed(log: sqlite3.Connection, store: SumsStore, state: State, now: LogVersion) -> State:
    """Return the state at a new version: all blocks are unchecked unless turns were only added."""
    ends = _ends(log)
    new = [Range(table, state.ends.get(table, end)) for table, end in ends.items()]
    if now.since(state.version) != sum(_count(log, rows) for rows in new):
        return State(now, ends, START, state.next_check)
    # A turn that is logged again replaces the earlier row, in the same transaction.
    for rows in new:
        replaced = store.blocks_with_ids_from(rows.table, _lowest_id(log, rows), REPLACED)
        if _rows_in(replaced) >= REPLACED:
            return State(now, ends, START, state.next_check)
        _compare(log, store, replaced)
    next_check = state.next_check
    if state.unchecked is None:
        blocks = store.blocks_after(next_check, ROUTINE)
        if (rest := ROUTINE - _rows_in(blocks)) > 0:
            again = store.blocks_after(START, rest)
            blocks += [block for block in again if (block.source, block.last) <= next_check]
        next_check = _compare(log, store, blocks) or START
    return State(now, ends, state.unchecked, next_check)


def _rows_in(blocks: Sequence[KnownBlock]) -> int:
    return sum(block.rows for block in blocks)


def _compare(
    log: sqlite3.Connection, store: SumsStore, blocks: Sequence[KnownBlock]
) -> BlockPlace | None:
    """Compare blocks with the log; return the last one's place, or None if there were none."""
    change = Sums()
    ends = _ends(log)
    for block in blocks:
        rows = Range(block.source, block.after, block.last)
        end = ends.get(block.source, FIRST_PLACE)
        if block.last <= end and _digest(log, rows) == block.digest:
            continue
        change.merge(store.remove(block.source, block.last), -1)
        # If the last rows are gone, new ones will take their rowids.
        if block.last <= end:
            again = _read_block(log, rows)
            change.merge(again.sums)
            store.put([again])
    if change.cells or change.others or change.unreadable:
        with store.errors_explained():
            store.summed.add(change)
            store.summed.tidy()
    return BlockPlace(blocks[-1].source, blocks[-1].last) if blocks else None


def _add_blocks(log: sqlite3.Connection, store: SumsStore) -> None:
    """Put turns that are in no block into some."""
    blocks: list[Block] = []
    total = Sums()
    for rows in _latest(log, store):
        after = rows.after
        while len(blocks) < CHUNK and (size := _next_size(log, rows.table, after)):
            last = _rowid_at(log, rows.table, after, size) or after
            blocks.append(_read_block(log, Range(rows.table, after, last)))
            total.merge(blocks[-1].sums)
            after = last
    store.put(blocks)
    with store.errors_explained():
        store.summed.add(total)


def _read_block(log: sqlite3.Connection, rows: Range) -> Block:
    """Return the block with these rows."""
    sums, days = Sums(), {}
    for day, low, high in _select(log, _BOUNDS, rows):
        days[day] = Bounds(low, high)
    for turn in read_turns(log, rows):
        if isinstance(turn, str):
            sums.unreadable[turn] += 1
            continue
        sums.add(turn)
        bounds = days[turn.day]
        bounds.first = min(bounds.first or turn.time, turn.time)
        bounds.latest = max(bounds.latest or turn.time, turn.time)
    for day, model, *numbers in read_other_models(log, rows):
        sums.add_other(day, model, *numbers)
    number, highest = _select(log, _ROWS_AND_ID, rows)[0]
    first = first_request(log, rows)
    return Block(rows.table, rows.last, number, _digest(log, rows), highest, first, days, sums)


def _digest(log: sqlite3.Connection, rows: Range) -> bytes:
    contents = [content for (content,) in _select(log, _CONTENT, rows)]
    lengths = ",".join(str(len(content)) for content in contents)
    return hashlib.blake2b(b"".join((lengths.encode(), *contents)), digest_size=16).digest()


def _select(log: sqlite3.Connection, query: str, rows: Range) -> Any:
    source = select_from(log, rows.table)
    return log.execute(query.format(source=source), rows._asdict()).fetchall()


def _ends(log: sqlite3.Connection) -> dict[str, int]:
    """Return the highest rowid of each table of the log."""
    ends = {}
    for table in TABLES:
        if has_table(log, table):
            (last,) = log.execute(f"select max(rowid) from {table}").fetchone()  # noqa: S608 - our own words
            ends[table] = FIRST_PLACE if last is None else last
    return ends


def _count(log: sqlite3.Connection, rows: Range) -> int:
    query = f"select count(*) from {rows.table} where rowid > ?"  # noqa: S608 - our own words
    (number,) = log.execute(query, (rows.after,)).fetchone()
    return int(number)


def _lowest_id(log: sqlite3.Connection, rows: Range) -> Any:
    # The index of the ids would lead through all of them.
    query = f"select min(id) from {rows.table} not indexed where rowid > ?"  # noqa: S608 - our own words
    (lowest,) = log.execute(query, (rows.after,)).fetchone()
    return lowest


def _next_size(log: sqlite3.Connection, table: str, after: int) -> int:
    """Return the number of rows that the next block is to have, 0 if they are too few for one."""
    for size in (LARGE, SMALL):
        if _rowid_at(log, table, after, 2 * size) is not None:
            return size
    return 0


def _rowid_at(log: sqlite3.Connection, table: str, after: int, number: int) -> int | None:
    """Return the rowid of the row so many rows after one, or None if there are fewer."""
    query = f"select rowid from {table} where rowid > ? order by rowid limit 1 offset ?"  # noqa: S608 - our own words
    row = log.execute(query, (after, number - 1)).fetchone()
    return int(row[0]) if row else None


@cache
def _version_of_prices() -> str:
    """Return the version of the list whose days of change and limits the sums are split by."""
    return version("genai-prices")


def _file_of(log: Path) -> Path:
    """Return the file for the sums of a log, by days of the time zone that applies now."""
    zone = Path("/etc/localtime")
    with suppress(OSError):
        zone = zone.resolve()
    changed = zone.stat().st_mtime_ns if zone.exists() else 0
    names = (str(log.resolve()), os.environ.get("TZ"), str(zone), changed, time.tzname)
    name = hashlib.sha256(repr(names).encode(errors="replace")).hexdigest()[:16]
    file = sums_folder() / f"{name}.db"
    if not file.exists():
        _remove_old(sums_folder())
    return file


def _remove_old(folder: Path) -> None:
    """Remove sums that nobody has needed for long."""
    with suppress(OSError):
        for file in folder.glob("*.db"):
            if time.time() - file.stat().st_mtime > KEPT.total_seconds():
                file.unlink()
