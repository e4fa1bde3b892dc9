"""llm's log is opened read-only, and what can be wrong with it is one clear error."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from llm_tiered.errors import TieredError
from llm_tiered.log import database as log_database
from llm_tiered.log.database import as_logged, has_requests, has_table, parse_time, reading
from tests.make_log import add, turn

if TYPE_CHECKING:
    from pathlib import Path


def count_turns(path: Path) -> int:
    """Return the number of turns in the log."""
    with reading(path) as database:
        (number,) = database.execute("select count(*) from turns").fetchone()
    return int(number)


def test_reading(log: Path) -> None:
    """The rows of the log can be read."""
    add(log, [turn(), turn()])
    assert count_turns(log) == 2


def test_nothing_can_be_written(log: Path) -> None:
    """The log is opened read-only."""
    with pytest.raises(TieredError, match="readonly"), reading(log) as database:
        database.execute("delete from turns")


def test_no_log_yet(logs: Path) -> None:
    """Without a log there is an error that says so, and no log is created."""
    with pytest.raises(TieredError, match="there is no log yet"), reading(logs):
        pass
    assert not logs.exists()


def test_a_locked_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that another process keeps locked is one clear error, after a wait."""
    monkeypatch.setattr(log_database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(log, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(TieredError, match=r"locked \(try again in a moment\)"):
            count_turns(log)


@pytest.mark.parametrize("content", [b"text, not a database" * 50, b"SQLite format 3\x00"])
def test_not_a_database(logs: Path, content: bytes) -> None:
    """A file that is not a database is one clear error."""
    logs.write_bytes(content)
    with pytest.raises(TieredError, match="can't be read"):
        count_turns(logs)


def test_a_folder_in_place_of_the_log(logs: Path) -> None:
    """A folder in place of the log is one clear error."""
    logs.mkdir()
    with pytest.raises(TieredError, match="can't be read"):
        count_turns(logs)


def test_tables(log: Path) -> None:
    """A log has requests if it has either of llm's two tables of requests."""
    for dropped, expected in (("turns", True), ("responses", False)):
        with closing(sqlite3.connect(log)) as database:
            database.execute(f"drop table {dropped}")
            assert not has_table(database, dropped)
            assert has_requests(database) is expected


def test_times() -> None:
    """Times of the log are UTC; times are compared with them as text, to the second."""
    noon = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
    assert parse_time("2026-11-22T12:00:00") == noon
    assert parse_time("2026-11-22T14:00:00+02:00") == noon
    assert as_logged(noon.astimezone(timezone(timedelta(hours=2)))) == "2026-11-22T12:00:00"
    assert as_logged(datetime(26, 1, 1, tzinfo=timezone.utc)) == "0026-01-01T00:00:00"
    with pytest.raises(ValueError, match="isoformat"):
        parse_time("yesterday")
