"""Our own databases are brought to a version of their schema, once."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from llm_tiered.log.own_database import open_own

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = ("drop table if exists made", "create table made (x)", "insert into made values (1)")


def test_a_new_one(tmp_path: Path) -> None:
    """It gets its folder and its schema; only the owner may read it."""
    path = tmp_path / "folder" / "own.db"
    for _ in range(2):
        with closing(open_own(path, 1, 7, SCHEMA)) as database:
            assert database.execute("select * from made").fetchall() == [(1,)]
            database.execute("update made set x = 1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_version(tmp_path: Path) -> None:
    """A change of the version runs the statements again, the same version does not."""
    path = tmp_path / "own.db"
    rows = []
    for version in (1, 1, 2):
        with closing(open_own(path, 1, version, SCHEMA)) as database:
            rows += database.execute("select x from made").fetchall()
            database.execute("update made set x = 2")
    assert rows == [(1,), (2,), (1,)]


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    """If a statement fails, those before it are undone, and the file is closed."""
    path = tmp_path / "own.db"
    with pytest.raises(sqlite3.OperationalError):
        open_own(path, 1, 1, (*SCHEMA, "no statement"))
    with closing(sqlite3.connect(path, timeout=0)) as database, database:
        assert database.execute("select * from sqlite_master").fetchall() == []


def test_several_at_once(tmp_path: Path) -> None:
    """Of several that open a new one, one runs the statements."""
    path = tmp_path / "own.db"
    schema = ("create table made (x)", "insert into made values (1)")
    failed: list[BaseException] = []

    def opened() -> None:
        try:
            open_own(path, 5, 1, schema).close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=opened) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_in_memory() -> None:
    """Without a path, nothing is written."""
    with closing(open_own(None, 1, 1, SCHEMA)) as database:
        assert database.execute("select * from made").fetchall() == [(1,)]
