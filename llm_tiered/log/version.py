"""How often llm's log was changed, so that it is known whether turns were only added to it.

llm adds each turn in a transaction of its own. SQLite counts the transactions in the header of the
file (https://sqlite.org/fileformat2.html#file_change_counter), but has no SQL for that.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_HEADER = 100

# Where the header has the version of the journal, which is 2 with a write-ahead log, and the count.
_JOURNAL, _COUNT = 19, 24
_WRITE_AHEAD = 2


class LogVersion(NamedTuple):
    """A state of the log: equal ones have the same rows.

    `transactions` is how many have changed this `file` so far, None if it is unknown: with a
    write-ahead log, they are not counted.
    """

    file: str
    transactions: int | None

    def since(self, earlier: LogVersion) -> int | None:
        """Return how many transactions have changed the log since then, or None if unknown."""
        if self.file != earlier.file or self.transactions is None or earlier.transactions is None:
            return None
        return self.transactions - earlier.transactions


def version_of_log(database: sqlite3.Connection, path: Path) -> LogVersion:
    """Return the version that a connection reads, which must have begun a transaction.

    Raises OSError or sqlite3.Error.
    """
    status = path.stat()
    database.execute("select 1 from sqlite_master limit 1").fetchone()
    header = _header(path, status)
    if len(header) == _HEADER and header[_JOURNAL] != _WRITE_AHEAD:
        (count,) = struct.unpack_from(">I", header, _COUNT)
        return LogVersion(f"{status.st_dev} {status.st_ino}", count)
    state = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
    with suppress(OSError):
        log = path.with_name(f"{path.name}-wal").stat()
        state += [log.st_ino, log.st_size, log.st_mtime_ns]
    return LogVersion(" ".join(map(str, state)), None)


def _header(path: Path, status: os.stat_result) -> bytes:
    """Return the first bytes of the log, which a connection of this process has open.

    On POSIX, closing a file gives up all locks that the process has on it, SQLite's included (see
    https://sqlite.org/howtocorrupt.html), so the file is not opened again: this reads from SQLite's
    own descriptor.
    """
    if os.name == "nt":
        with path.open("rb") as file:
            return file.read(_HEADER)
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):
            other = os.fstat(int(name))
            if (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino):
                return os.pread(int(name), _HEADER, 0)
    return b""
