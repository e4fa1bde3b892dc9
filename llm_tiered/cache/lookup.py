"""Cache key → an earlier answer to the same request, from llm's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .. import paths
from ..errors import TieredError
from ..log.database import reading
from .answers import keys_after, last_position, read_answer, still_there
from .index import Index

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime
    from pathlib import Path

    from .answers import CachedAnswer

logger = logging.getLogger("llm_tiered")

# Turns that are read in one step; no other process can write to the index meanwhile.
CHUNK = 5000


def find(
    key: str,
    *,
    newer_than: datetime | None = None,
    log_path: Path | None = None,
    index_path: Path | None = None,
) -> CachedAnswer | None:
    """Return the newest complete answer to the request with this key, or None.

    `newer_than` is an aware datetime. The log is only read. If the log or the index can't be
    used, log one warning and return None.
    """
    log_path = log_path or paths.log_path()
    try:
        if not log_path.exists():
            return None
        with (
            reading(log_path) as log,
            Index(index_path or paths.cache_index_path()) as index,
        ):
            _update(index, log)
            return _newest(index, log, key, newer_than)
    except (TieredError, OSError) as error:
        logger.warning("answering without the cache: %s", error)
        return None


def _newest(
    index: Index, log: sqlite3.Connection, key: str, newer_than: datetime | None
) -> CachedAnswer | None:
    for turn_id in index.turns(key):
        answer = read_answer(log, turn_id, key)
        if answer is None:
            index.forget(key, turn_id)
        elif newer_than is None or (answer.time and answer.time >= newer_than):
            return answer
    return None


def _update(index: Index, log: sqlite3.Connection) -> None:
    """Add to the index what any process has logged since; start over if the log was replaced."""
    if last_position(log) == index.position():
        return
    full = True
    while full:
        with index.writing():
            # Another process may have updated the index in the meantime.
            position = index.position()
            if position and not still_there(log, position):
                index.clear()
                position = None
            turns = keys_after(log, position, CHUNK)
            if turns:
                entries = [(turn.key, turn.turn_id) for turn in turns if turn.key]
                index.add(entries, turns[-1].position)
        full = len(turns) == CHUNK
