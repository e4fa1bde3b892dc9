"""The user's marks on answers, in our own database beside llm's log."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal, NamedTuple, cast, get_args

from ..errors import TieredError
from ..paths import feedback_path

if TYPE_CHECKING:
    from collections.abc import Iterator

Verdict = Literal["up", "down"]

_TABLE = """
create table if not exists marks (
    turn_id text primary key,
    verdict text not null check (verdict in ('up', 'down')),
    note text,
    datetime_utc text not null
)
"""

# Seconds to wait for another process that is writing to the database.
PATIENCE = 5.0


class Mark(NamedTuple):
    """The user's verdict on the answer of a turn, with a note and the time in ISO format."""

    turn: str
    verdict: Verdict
    note: str | None
    when: str


def set_mark(turn: str, verdict: Verdict, note: str | None = None) -> Mark:
    """Mark the answer of a turn, replacing an earlier mark. Raises TieredError."""
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    mark = Mark(turn, verdict, note, when)
    with _open() as database:
        database.execute("insert or replace into marks values (?, ?, ?, ?)", mark)
    return mark


def remove_mark(turn: str) -> None:
    """Remove the mark on the answer of a turn. Raises TieredError."""
    with _open() as database:
        database.execute("delete from marks where turn_id = ?", (turn,))


def marks() -> dict[str, Mark]:
    """Return all marks by the ids of their turns, latest first. Raises TieredError."""
    if not feedback_path().exists():
        return {}
    with _open() as database:
        rows = database.execute(
            "select turn_id, verdict, note, datetime_utc from marks order by datetime_utc desc"
        ).fetchall()
    return {
        turn: Mark(turn, cast("Verdict", verdict), note, when)
        for turn, verdict, note, when in rows
        if verdict in get_args(Verdict)
    }


@contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    """Open the database, readable only by its owner; the block is one transaction."""
    file = feedback_path()
    try:
        file.parent.mkdir(exist_ok=True)
        # Notes are private. SQLite gives its journal the permissions of the database.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(file, timeout=PATIENCE)) as database, database:
            database.execute(_TABLE)
            yield database
    except sqlite3.Error as error:
        fix = "try again in a moment" if "locked" in str(error) else None
        raise TieredError(f"{file} can't be used: {error}", fix=fix) from error
    except OSError as error:
        raise TieredError(f"{file} can't be used: {error.strerror}") from error
