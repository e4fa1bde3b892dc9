"""llm's log, opened read-only, and what its rows have in common.

llm 0.36 logs into the table `turns`, earlier versions logged into `responses`; a log may have
either or both.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..errors import TieredError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Seconds to wait for another process that has locked the log.
PATIENCE = 5.0

TABLES = ("turns", "responses")

# The columns that reports need.
COLUMNS = (
    "id",
    "model",
    "resolved_model",
    "input_tokens",
    "output_tokens",
    "token_details",
    "duration_ms",
    "datetime_utc",
    "response_json",
)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the log read-only. Raises TieredError if it can't be read, then or in the block."""
    if not path.exists():
        raise TieredError(f"there is no log yet: {path}", fix="llm logs on, then ask something")
    try:
        uri = path.absolute().as_uri() + "?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as database:
            database.text_factory = any_text
            yield database
    except sqlite3.Error as error:
        fix = "try again in a moment" if "locked" in str(error) else None
        raise TieredError(f"{path} can't be read: {error}", fix=fix) from error


def has_table(database: sqlite3.Connection, table: str) -> bool:
    """Return whether the log has this table: the log of an older llm has fewer."""
    query = "select 1 from sqlite_master where type = 'table' and name = ?"
    return database.execute(query, (table,)).fetchone() is not None


def has_requests(database: sqlite3.Connection) -> bool:
    """Return whether the database has any of the tables into which llm logs requests."""
    return any(has_table(database, table) for table in TABLES)


def select_from(database: sqlite3.Connection, table: str) -> str | None:
    """Return a query for the columns that reports need, or None if there is no such table.

    Columns that the log of an older llm lacks are null.
    """
    rows = database.execute("select name from pragma_table_info(?)", (table,))
    existing = {name for (name,) in rows}
    columns = [name if name in existing else f"null as {name}" for name in COLUMNS]
    return f"select {', '.join(columns)} from {table}" if existing else None  # noqa: S608


def parse_time(datetime_utc: str) -> datetime:
    """Return a time of the log as an aware datetime. Raises ValueError or TypeError."""
    time = datetime.fromisoformat(datetime_utc)
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def as_logged(time: datetime) -> str:
    """Return an aware time as text that compares with the times in the log, to the second."""
    # Not strftime: it writes the year 26 with two digits.
    return time.astimezone(timezone.utc).isoformat()[:19]


def any_text(text: bytes) -> str:
    """Decode text of the log, including text whose encoding is damaged."""
    return text.decode(errors="replace")
