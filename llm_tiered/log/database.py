"""llm's log, opened read-only, and what its rows have in common.

An older llm logged into `responses`, llm 0.36 logs into `turns`; a log may have either or both.
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

# Seconds for which a log that another process has locked is tried again.
PATIENCE = 5.0

TABLES = ("turns", "responses")

_COLUMNS = (
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
    """The log, open so that nothing can be written. Raises TieredError where it can't be read."""
    if not path.exists():
        raise TieredError(f"there is no log yet: {path}", fix="llm logs on, and ask something")
    try:
        uri = path.absolute().as_uri() + "?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as database:
            database.text_factory = any_text
            yield database
    except sqlite3.Error as error:
        fix = "try again in a moment" if "locked" in str(error) else None
        raise TieredError(f"{path} can't be read: {error}", fix=fix) from error


def has_requests(database: sqlite3.Connection) -> bool:
    """Whether this database has any of the tables into which llm logs requests."""
    return any(select_from(database, table) for table in TABLES)


def select_from(database: sqlite3.Connection, table: str) -> str | None:
    """A query for the columns that reports need; an older llm's log lacks some, or the table."""
    rows = database.execute("select name from pragma_table_info(?)", (table,))
    there = {name for (name,) in rows}
    wanted = [name if name in there else f"null as {name}" for name in _COLUMNS]
    return f"select {', '.join(wanted)} from {table}" if there else None  # noqa: S608 - our words


def parse(datetime_utc: str) -> datetime:
    """A time of the log, aware. Raises ValueError or TypeError if it is none."""
    when = datetime.fromisoformat(datetime_utc)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def as_logged(time: datetime) -> str:
    """A time as it compares with those of the log, to the second."""
    # Not strftime: it writes the year 26 with two digits.
    return time.astimezone(timezone.utc).isoformat()[:19]


def any_text(text: bytes) -> str:
    """Text of any row, also of one whose encoding is damaged."""
    return text.decode(errors="replace")
