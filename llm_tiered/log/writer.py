"""Writes prompts made through the Python API to llm's log, as llm's command line does."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm

from ..paths import log_path, logs_off_path
from . import callers, creation

if TYPE_CHECKING:
    from llm.models import _BaseResponse

logger = logging.getLogger("llm_tiered")

# Seconds to wait for whoever is writing to the log.
PATIENCE = 30.0

# Seconds of these that the caller spends, who may be the one that has locked it.
PATIENCE_OF_CALLER = 1.0

# Seconds between two attempts.
_PAUSE = 0.03


def must_log(*, log_api: bool) -> bool:
    """Return whether prompts are logged at all; `log_api` is the setting of that name."""
    return log_api and not logs_off_path().exists()


def destination(response: _BaseResponse, *, log_api: bool) -> Path | None:
    """Return the log that the response has to be written to once it is done, or None.

    llm's own commands log what they asked for, but not what their tools and models ask for.
    """
    command = callers.llm_command()
    if command is None:
        return log_path() if must_log(log_api=log_api) else None
    if command.no_log or command.logs(response) or not log_api:
        return None
    off = logs_off_path().exists() and not command.log
    return None if off else Path(command.database or log_path())


def write(response: _BaseResponse, path: Path | None = None) -> None:
    """Add a finished response to the log, after a while in the background if it stays locked.

    `path` is that of the log, if it is not the usual one. If it can't be written, log a warning:
    the caller still gets the answer.
    """
    path = path or log_path()
    own = callers.being_logged()
    if response.conversation is None and response not in own:
        # Otherwise each who logs the response makes a thread for it, and only the last keeps it.
        response.conversation = _conversation(response)
    if own or _BACKLOG or not _written(response, path, PATIENCE_OF_CALLER, last=False):
        _BACKLOG.add(response, path)


class _Backlog:
    """Responses that are written in their order, in the background, once the log is unlocked.

    The interpreter does not exit before that.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[_BaseResponse, Path]] = deque()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, response: _BaseResponse, path: Path) -> None:
        with self._lock:
            self._waiting.append((response, path))
            if len(self._waiting) == 1:
                threading.Thread(target=self._write, name="llm-tiered log", daemon=False).start()

    def _write(self) -> None:
        while True:
            _written(*self._waiting[0], PATIENCE, last=True)
            with self._lock:
                self._waiting.popleft()
                if not self._waiting:
                    return


_BACKLOG = _Backlog()


def is_behind() -> bool:
    """Return whether responses wait to be written, because the log is locked."""
    return bool(_BACKLOG)


def _let_others_finish() -> None:
    """Wait until no other thread is logging: it may do so for as long as its model answers."""
    while any(map(callers.being_logged, threading.enumerate())):
        time.sleep(_PAUSE)


def _written(response: _BaseResponse, path: Path, patience: float, *, last: bool) -> bool:
    """Write the response, and return whether it is settled: written, or given up with a warning.

    If the log stays locked, it is given up only at the `last` attempt.
    """
    waited = 0.0
    while True:
        if last:
            _let_others_finish()
        try:
            _write(response, path)
        except Exception as error:
            busy = (
                "locked" in str(error)
                or isinstance(error, TimeoutError)
                or creation.is_unfinished(path)
            )
            if busy and waited < patience:
                waited += (pause := _PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                time.sleep(pause)
                continue
            if busy and not last:
                return False
            logger.warning("the answer could not be logged in %s: %s", path, error)
        return True


def _write(response: _BaseResponse, path: Path) -> None:
    import filelock
    import sqlite_utils
    from llm.migrations import migrate

    # llm migrates a log when it opens it; two processes doing so at the same time would damage it.
    # Nobody keeps this lock for long, not even while SQLite's own is taken.
    with filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=PATIENCE):
        if not path.exists():
            creation.create(path)
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            database = sqlite_utils.Database(connection)
            migrate(database)
            # A transaction that has begun by reading fails where it meets another writer, and so
            # might that of the caller: this one begins when nobody else has begun.
            connection.execute("begin exclusive")
            if response.conversation is None:
                response.conversation = _conversation(response, _thread(connection, response.id))
            response.log_to_db(database)
            connection.commit()


def _thread(connection: sqlite3.Connection, turn_id: str) -> str | None:
    """Return the thread in which somebody else has logged the turn, or None."""
    query = "select thread_id from turns where id = ?"
    row = connection.execute(query, (turn_id,)).fetchone()
    return row[0] if row else None


def _conversation(response: _BaseResponse, thread_id: str | None = None) -> Any:
    asynchronous = isinstance(response, llm.AsyncResponse)
    kind: Any = llm.AsyncConversation if asynchronous else llm.Conversation
    return kind(response.model, **({"id": thread_id} if thread_id else {}))
