"""The reports of the latest replays, in our own database beside llm's log.

They have ids, tiers, models, amounts and settings, but no prompts.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from ..paths import replays_path
from .own_database import connect_own

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Reports that are kept.
MOST = 50

# Seconds to wait for another process that is writing to the database.
PATIENCE = 5.0

_TABLE = """
create table if not exists replays (
    id integer primary key autoincrement,
    log text not null,
    datetime_utc text not null,
    report text not null
)
"""


class SavedReplay(NamedTuple):
    """The report of a replay as JSON, its number, and the time when it was made, in ISO format."""

    number: int
    when: str
    report: dict[str, Any]


def save(log: Path, report: Mapping[str, Any]) -> int:
    """Keep a report on a log, and return its number. Raises OSError or sqlite3.Error."""
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with closing(connect_own(replays_path(), PATIENCE)) as database:
        database.execute(_TABLE)
        row = (str(log.resolve()), when, json.dumps(report, default=str))
        number = database.execute(
            "insert into replays (log, datetime_utc, report) values (?, ?, ?)", row
        ).lastrowid
        database.execute(
            "delete from replays where id not in (select id from replays order by id desc limit ?)",
            (MOST,),
        )
    return number or 0


def saved_replays(log: Path) -> list[SavedReplay]:
    """Return the reports on a log, latest first. Raises sqlite3.Error."""
    path = replays_path()
    if not path.exists():
        return []
    uri = path.absolute().as_uri() + "?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as database:
        rows = database.execute(
            "select id, datetime_utc, report from replays where log = ? order by id desc",
            (str(log.resolve()),),
        ).fetchall()
    return [SavedReplay(number, when, json.loads(report)) for number, when, report in rows]
