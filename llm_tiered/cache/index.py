"""The index of the cache, a database beside llm's log: cache key → turns with an answer."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from ..errors import TieredError
from ..log.own_database import open_own

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Seconds to wait for another process that is writing to the index.
PATIENCE = 5.0

# Version of the schema below: an index of another version is rebuilt.
VERSION = 1
_SCHEMA = (
    "drop table if exists answers",
    "drop table if exists mark",
    """
    create table answers (
        key blob not null, turn_id text not null, primary key (key, turn_id)
    ) without rowid
    """,
    "create table mark (turn_rowid integer not null, turn_id text not null)",
)


class Position(NamedTuple):
    """A place in the log: the last turn up to which the index is complete.

    Unlike ids, rowids are in the order of logging. They change when a log is vacuumed or replaced,
    so the id of the turn is kept to detect that.
    """

    rowid: int
    turn_id: str


class Index:
    """The index in a file, as a context manager; creates the file if necessary.

    Every method raises TieredError if the file can't be used. A damaged file is deleted, so that
    the next process rebuilds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Index:
        with self._errors_explained():
            self._database = open_own(self.path, PATIENCE, VERSION, _SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def position(self) -> Position | None:
        """Return the last turn of the log that is in the index, or None if it is empty."""
        with self._errors_explained():
            row = self._database.execute("select turn_rowid, turn_id from mark").fetchone()
        return row and Position(*row)

    def turns(self, key: str) -> list[str]:
        """Return the ids of the turns that answered the request with this key, newest first."""
        query = "select turn_id from answers where key = ? order by turn_id desc"
        with self._errors_explained():
            return [turn_id for (turn_id,) in self._database.execute(query, (_packed(key),))]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wrap a block in a transaction: no other process writes during it."""
        with self._errors_explained():
            self._database.execute("begin immediate")
        yield
        with self._errors_explained():
            self._database.execute("commit")

    def clear(self) -> None:
        """Remove all entries."""
        with self._errors_explained():
            self._database.execute("delete from answers")
            self._database.execute("delete from mark")

    def add(self, entries: Sequence[tuple[str, str]], position: Position) -> None:
        """Add (key, turn id) pairs: all those of the log up to the position."""
        # Sorted, so that each page is written once.
        rows = sorted((_packed(key), turn_id) for key, turn_id in entries)
        with self._errors_explained():
            self._database.executemany("insert or ignore into answers values (?, ?)", rows)
            self._database.execute("delete from mark")
            self._database.execute("insert into mark values (?, ?)", position)

    def forget(self, key: str, turn_id: str) -> None:
        """Remove a turn whose answer can no longer be used."""
        statement = "delete from answers where key = ? and turn_id = ?"
        with self.writing(), self._errors_explained():
            self._database.execute(statement, (_packed(key), turn_id))

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Turn errors of SQLite and of the file system into TieredError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            # Exactly this class means damage; locked, full and so on are subclasses.
            if type(error) is sqlite3.DatabaseError:
                with suppress(OSError):
                    self.path.unlink()
                    self.path.with_name(f"{self.path.name}-journal").unlink()
            raise TieredError(f"{self.path} can't be used: {error}") from error


def _packed(key: str) -> bytes:
    return bytes.fromhex(key)
