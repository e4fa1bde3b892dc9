"""The fragments that llm keeps in its log, and the names that the user has given to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from .conversation import log_in_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ALIASES = """
select alias from fragment_aliases join fragments on fragments.id = fragment_aliases.fragment_id
where hash = ?
"""

_NO_FRAGMENTS = """
create table fragments (id integer, hash text, content text, source text);
create table fragment_aliases (alias text, fragment_id integer);
"""


def aliases(hashes: Iterable[str]) -> list[str]:
    """Return the aliases of the fragments with these hashes; none if the log can't be read."""
    try:
        with _reading() as connection:
            return [alias for each in hashes for (alias,) in connection.execute(_ALIASES, (each,))]
    except sqlite3.Error:
        return []


@contextmanager
def database() -> Iterator[Any]:
    """Open the log for llm to look up fragments in it, read-only; a new log has none."""
    import sqlite_utils

    with _reading() as connection:
        yield sqlite_utils.Database(connection)


@contextmanager
def _reading() -> Iterator[sqlite3.Connection]:
    path = log_in_use()
    uri = f"{path.absolute().as_uri()}?mode=ro" if path.exists() else "file::memory:"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        if not path.exists():
            connection.executescript(_NO_FRAGMENTS)
        yield connection
