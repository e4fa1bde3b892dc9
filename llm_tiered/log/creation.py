"""A log that is not there yet, or not whole.

llm's own processes create and migrate a log without a lock, and fail at one that is half done.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def create(path: Path) -> None:
    """Create the log, which other processes don't see until it is complete."""
    import sqlite_utils
    from llm.migrations import migrate

    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        # Migrating on disk waits for the disk after every step, which takes ten times as long.
        with closing(sqlite3.connect(":memory:")) as draft, closing(sqlite3.connect(new)) as file:
            migrate(sqlite_utils.Database(draft))
            draft.backup(file)
        os.link(new, path)
    except OSError:
        # One of llm's own was faster, or this file system has no links: llm creates it.
        return
    finally:
        new.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether the log is half created or migrated, as far as it can be read."""
    from llm.migrations import MIGRATIONS

    if not path.is_file():
        # To open a pipe would wait for somebody to write to it.
        return False
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as database:
            names = {name for (name,) in database.execute("select name from _llm_migrations")}
    except sqlite3.OperationalError as error:
        return "no such table" in str(error)
    except sqlite3.Error:
        return False
    return any(migration.__name__ not in names for migration in MIGRATIONS)
