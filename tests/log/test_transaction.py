"""The log inside a transaction: what sqlite_utils wants to know of its tables, it asks once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlite_utils
from llm.migrations import migrate
from sqlite_utils.db import NoTable

from llm_tiered.log.transaction import locked_database

if TYPE_CHECKING:
    from pathlib import Path


def test_tables_are_looked_at_once(tmp_path: Path) -> None:
    """For further rows, nobody asks what the tables are."""
    with closing(sqlite3.connect(tmp_path / "logs.db")) as connection:
        migrate(sqlite_utils.Database(connection))
        connection.execute("begin exclusive")
        database = locked_database(connection)
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        for name in ("first", "second"):
            statements.clear()
            database.table("threads").insert({"id": name}, replace=True)
            database.table("threads").update(name, {"name": name})
        assert not [each for each in statements if "sqlite_master" in each or "PRAGMA" in each]
        assert [row["name"] for row in database.table("threads").rows] == ["first", "second"]


def test_views_are_no_tables(tmp_path: Path) -> None:
    """A view is told apart from a table, as usual."""
    with closing(sqlite3.connect(tmp_path / "logs.db")) as connection:
        connection.execute("create view numbers as select 1")
        database = locked_database(connection)
        with pytest.raises(NoTable):
            database.table("numbers")
        assert [tuple(row.values()) for row in database["numbers"].rows] == [(1,)]
