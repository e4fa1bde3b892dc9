"""Spending on the cloud that llm's log does not show.

It is for attempts that failed or broke off, and for answers that were not logged or were deleted.
The ledger notes which answers are in the log, so that a year of them is not looked up each time.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..errors import TieredError
from ..log.database import has_table, reading
from ..log.version import version_of_log
from ..paths import ledger_path, log_path
from .ledger import Ledger, LogSeen
from .periods import Period
from .tally import Money

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from .ledger import Entry

# Turns after which the log is noted as seen even if none of them is in the ledger.
_AT_MOST = 100

_LOGGED = """
select value from json_each(?) where exists (select 1 from turns where id = value)
"""

_LAST = "select ifnull(max(rowid), -1) from turns"

_ADDED = "select count(*) from turns where rowid > ?"


def read_unlogged_since(log: Path, since: datetime) -> Money | None:
    """Return the spending since then that the log lacks; None is unknown. Raises TieredError."""
    with reading(log) if log.exists() else nullcontext() as database:
        return read_unlogged(log, database, Period(since))


def read_unlogged(log: Path, database: sqlite3.Connection | None, period: Period) -> Money | None:
    """Return the spending of a period that is not in this open log; None is unknown.

    For any log but llm's own there is none. `database` is None if the log does not exist.
    """
    money = Money()
    if log != log_path() or not ledger_path().exists():
        return money
    try:
        entries = _entries(log, database, period)
    except TieredError:
        return None
    for entry in entries:
        money.add(entry.amount, 1)
        money.unpriced += entry.amount is not None and not entry.complete
    return money


def _entries(log: Path, database: sqlite3.Connection | None, period: Period) -> list[Entry]:
    with Ledger(ledger_path()) as ledger:
        if database is None or not has_table(database, "turns"):
            return ledger.between(*period)
        database.execute("begin")
        try:
            _update(log, database, ledger)
        finally:
            database.execute("rollback")
        return ledger.between(*period, unlogged=True)


def _update(log: Path, database: sqlite3.Connection, ledger: Ledger) -> None:
    """Note in the ledger which answers are in the log now."""
    version = version_of_log(database, log)
    seen = ledger.log_seen()
    added = 0
    gone: list[str] = []
    if seen and version != seen.version:
        (added,) = database.execute(_ADDED, (seen.rowid,)).fetchone()
    # If turns were only added, all that were seen are still there.
    if seen is None or (version != seen.version and version.since(seen.version) != added):
        logged = ledger.answers(logged=True)
        gone = [*{*logged} - {*_logged(database, logged)}]
        seen = None
    new = _logged(database, ledger.answers(logged=False))
    if new or gone or seen is None or added > _AT_MOST:
        (last,) = database.execute(_LAST).fetchone()
        with ledger.writing():
            ledger.set_seen(LogSeen(version, last), new, gone)


def _logged(database: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Return which responses are in the log."""
    return [id_ for (id_,) in database.execute(_LOGGED, (json.dumps(ids),))]
