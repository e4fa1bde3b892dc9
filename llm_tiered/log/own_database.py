"""Our own databases beside llm's log."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def connect_own(path: Path, patience: float) -> sqlite3.Connection:
    """Open a database of ours beside the log; only its owner may read a new one.

    `patience` is how many seconds to wait for other writers. Raises OSError or sqlite3.Error.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    return sqlite3.connect(path, timeout=patience, isolation_level=None)


def open_own(
    path: Path | None, patience: float, version: int, schema: Sequence[str]
) -> sqlite3.Connection:
    """Return a database as `connect_own` does, with this version of its schema.

    The statements of the schema change one of any other version, or an empty one. Writing does not
    wait for the disk: what is written survives the process, but perhaps not a power cut. Without a
    path, the database is in memory.
    """
    if path is None:
        database = sqlite3.connect(":memory:", isolation_level=None)
    else:
        database = connect_own(path, patience)
    try:
        database.execute("pragma synchronous = off")
        if _version(database) != version:
            database.execute("begin immediate")
            # Another process may have changed it in the meantime.
            if _version(database) != version:
                for statement in schema:
                    database.execute(statement)
                database.execute(f"pragma user_version = {version}")
            database.execute("commit")
    except BaseException:
        database.close()
        raise
    return database


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("pragma user_version").fetchone()
    return int(version)
