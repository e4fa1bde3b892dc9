"""The index of the cache, beside the log: which turns answered which request."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from ..errors import TieredError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Seconds for which an index that another process writes to is tried again.
PATIENCE = 5.0

# The number of what follows: an index of another version is made anew.
VERSION = 1
_SCHEMA = """
drop table if exists answers;
drop table if exists mark;
create table answers (
    key blob not null, turn_id text not null, primary key (key, turn_id)
) without rowid;
create table mark (turn_rowid integer not null, turn_id text not null);
"""


class Mark(NamedTuple):
    """The last turn of the log that is in the index: where it stood, and which it was.

    Rowids are in the order of logging, unlike ids. They change when a log is vacuumed, or is
    replaced by another.
    """

    rowid: int
    turn_id: str


class Index:
    """The index in that file, which is made if need be. A context manager.

    Whatever is wrong is a TieredError. A damaged file is removed, for the next one to make anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Index:
        with self._told():
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(mode=0o600)
            self._database = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _prepare(self) -> None:
        if self._version() == VERSION:
            return
        with self.writing(), self._told():
            if self._version() != VERSION:
                for statement in _SCHEMA.split(";"):
                    self._database.execute(statement)
                self._database.execute(f"pragma user_version = {VERSION}")

    def _version(self) -> int:
        with self._told():
            (version,) = self._database.execute("pragma user_version").fetchone()
        return int(version)

    def mark(self) -> Mark | None:
        """Up to where the log is in the index; None if nothing is."""
        with self._told():
            row = self._database.execute("select turn_rowid, turn_id from mark").fetchone()
        return row and Mark(*row)

    def turns(self, key: str) -> list[str]:
        """The ids of the turns that answered the request with that key, newest first."""
        query = "select turn_id from answers where key = ? order by turn_id desc"
        with self._told():
            return [turn_id for (turn_id,) in self._database.execute(query, (_packed(key),))]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What happens inside happens as a whole, and no other process writes meanwhile."""
        with self._told():
            # What a crash of the machine loses is in the log: nothing has to wait for the disk.
            self._database.execute("pragma synchronous = off")
            self._database.execute("begin immediate")
        yield
        with self._told():
            self._database.execute("commit")

    def clear(self) -> None:
        """Forget everything."""
        with self._told():
            self._database.execute("delete from answers")
            self._database.execute("delete from mark")

    def add(self, entries: Sequence[tuple[str, str]], mark: Mark) -> None:
        """Add keys with the turns that answered them, all those of the log up to the mark."""
        # In their order, so that each page is written once.
        rows = sorted((_packed(key), turn_id) for key, turn_id in entries)
        with self._told():
            self._database.executemany("insert or ignore into answers values (?, ?)", rows)
            self._database.execute("delete from mark")
            self._database.execute("insert into mark values (?, ?)", mark)

    def forget(self, key: str, turn_id: str) -> None:
        """Take out a turn that is no answer any more."""
        statement = "delete from answers where key = ? and turn_id = ?"
        with self.writing(), self._told():
            self._database.execute(statement, (_packed(key), turn_id))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            # Locked, full and the like are errors of other classes.
            if type(error) is sqlite3.DatabaseError:
                with suppress(OSError):
                    self.path.unlink()
                    self.path.with_name(f"{self.path.name}-journal").unlink()
            raise TieredError(f"{self.path} can't be used: {error}") from error


def _packed(key: str) -> bytes:
    return bytes.fromhex(key)
