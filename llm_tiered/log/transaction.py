"""llm's log inside a transaction, in which no table changes its form."""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

    from sqlite_utils import Database
    from sqlite_utils.db import Column, Table


def locked_database(connection: sqlite3.Connection) -> Database:
    """Return a database that is locked for one writer and has all its tables.

    sqlite_utils asks for the names and columns of tables again and again: of the statements for an
    answer, these would be three in four. This one asks once.
    """
    return _kind()(connection)


@cache
def _kind() -> type[Database]:
    """The class, which is made with the first answer: importing sqlite_utils takes a while."""
    from sqlite_utils import Database
    from sqlite_utils.db import Table

    class LockedTable(Table):
        @cached_property
        def columns(self) -> list[Column]:
            return super().columns

    class LockedDatabase(Database):
        def table_names(self, fts4: bool = False, fts5: bool = False) -> list[str]:
            return super().table_names(fts4, fts5) if fts4 or fts5 else self._all_tables

        def view_names(self) -> list[str]:
            return self._all_views

        def table(self, table_name: str, **kwargs: Any) -> Table:
            if kwargs or table_name in self._all_views:
                return super().table(table_name, **kwargs)
            if table_name not in self._known:
                self._known[table_name] = LockedTable(self, table_name)
            return self._known[table_name]

        @cached_property
        def _known(self) -> dict[str, Table]:
            return {}

        @cached_property
        def _all_tables(self) -> list[str]:
            return super().table_names()

        @cached_property
        def _all_views(self) -> list[str]:
            return super().view_names()

    return LockedDatabase
