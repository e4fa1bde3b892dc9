"""Writes prompts made through the Python API to llm's log, as llm's command line does."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import threading
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import llm

from ..paths import log_path, logs_off_path
from . import callers, creation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm.logs import LogStore
    from llm.models import _BaseResponse

logger = logging.getLogger("llm_tiered")

# Seconds that a response waits for whoever is writing to the log.
PATIENCE = 60.0

# Seconds of these that the caller spends, who may be the one that has locked it.
PATIENCE_OF_CALLER = 1.0

# Seconds between two attempts, and for which responses are tried that have waited long enough: they
# may only have waited for their turn.
_PAUSE = 0.03
_AT_LEAST = 0.3

# The most responses that are written together in the background: others wait for the log, too.
_TOGETHER = 100


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
    write_all([response], path or log_path())


async def write_async(response: _BaseResponse, path: Path | None = None) -> None:
    """Async counterpart of `write`: responses that come during a write share the next one."""
    path = path or log_path()
    commits = _GROUP_COMMITS.setdefault(asyncio.get_running_loop(), {})
    await commits.setdefault(path, _GroupCommit(path)).write(response)


def write_all(responses: Sequence[_BaseResponse], path: Path) -> None:
    """Add finished responses to a log together, as `write` does with one."""
    own = callers.being_logged()
    for response in responses:
        if response.conversation is None and response not in own:
            # Otherwise each who logs the response makes a thread for it, and only the last keeps
            # it.
            response.conversation = _conversation(response)
    if own or _BACKLOG or _problem(responses, path, PATIENCE_OF_CALLER):
        _BACKLOG.add(responses, path)


class _GroupCommit:
    """Writes the responses of an event loop in the order in which they come, many at a time.

    Each of them alone would take several times as long, most of it for the transaction.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[tuple[_BaseResponse, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, response: _BaseResponse) -> None:
        """Write a response, or leave it to the backlog."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((response, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await written

    async def _write(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._write_group(group)
        finally:
            self._writing = None

    async def _write_group(
        self, group: Sequence[tuple[_BaseResponse, asyncio.Future[None]]]
    ) -> None:
        problem: Exception | None = None
        try:
            await asyncio.to_thread(write_all, [response for response, _ in group], self._path)
        except Exception as error:
            problem = error
        for _, written in group:
            if written.done():
                continue
            if problem:
                written.set_exception(problem)
            else:
                written.set_result(None)


_GROUP_COMMITS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, _GroupCommit]]
_GROUP_COMMITS = WeakKeyDictionary()


class _Late(NamedTuple):
    """Responses for a log that is locked, and when they are given up."""

    responses: Sequence[_BaseResponse]
    path: Path
    until: float


class _Backlog:
    """Responses that are written in their order, in the background, once the log is unlocked.

    Each of them waits `PATIENCE` seconds, and the interpreter does not exit before that.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Late] = deque()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, responses: Sequence[_BaseResponse], path: Path) -> None:
        with self._lock:
            self._waiting.append(_Late(responses, path, time.monotonic() + PATIENCE))
            if len(self._waiting) == 1:
                threading.Thread(target=self._write, name="llm-tiered log", daemon=False).start()

    def _write(self) -> None:
        while True:
            group = self._next()
            responses = [response for each in group for response in each.responses]
            patience = max(group[0].until - time.monotonic(), _AT_LEAST)
            problem = _problem(responses, group[0].path, patience, in_background=True)
            with self._lock:
                if problem:
                    self._give_up(problem)
                else:
                    for _ in group:
                        self._waiting.popleft()
                if not self._waiting:
                    return

    def _next(self) -> list[_Late]:
        """The first ones that go into the same log."""
        group: list[_Late] = []
        number = 0
        with self._lock:
            for late in self._waiting:
                number += len(late.responses)
                if group and (late.path != group[0].path or number > _TOGETHER):
                    break
                group.append(late)
        return group

    def _give_up(self, problem: Exception) -> None:
        """Drop the first one, and those for the same log that have waited as long as it."""
        path, lost = self._waiting[0].path, 0
        while self._waiting and self._waiting[0].path == path:
            if lost and self._waiting[0].until > time.monotonic():
                break
            lost += len(self._waiting.popleft().responses)
        _warn(path, problem, lost)


_BACKLOG = _Backlog()


def is_behind() -> bool:
    """Return whether responses wait to be written, because the log is locked."""
    return bool(_BACKLOG)


def _let_others_finish() -> None:
    """Wait until no other thread is logging: it may do so for as long as its model answers."""
    while any(map(callers.being_logged, threading.enumerate())):
        time.sleep(_PAUSE)


def _problem(
    responses: Sequence[_BaseResponse], path: Path, patience: float, *, in_background: bool = False
) -> Exception | None:
    """Write responses, and return None once that is settled: written, or given up with a warning.

    If the log stays locked for as long as the `patience`, return the error that says so.
    """
    until = time.monotonic() + patience
    while True:
        if in_background:
            _let_others_finish()
        try:
            for problem in _write(responses, path, max(until - time.monotonic(), 0)):
                _warn(path, problem)
        except Exception as error:
            busy = (
                "locked" in str(error)
                or isinstance(error, TimeoutError)
                or creation.is_unfinished(path)
            )
            if not busy:
                _warn(path, error, len(responses))
                return None
            if time.monotonic() >= until:
                return error
            time.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            continue
        return None


def _warn(path: Path, problem: Exception, number: int = 1) -> None:
    if number == 1:
        logger.warning("the answer could not be logged in %s: %s", path, problem)
    else:
        logger.warning("%d answers could not be logged in %s: %s", number, path, problem)


def _write(responses: Sequence[_BaseResponse], path: Path, patience: float) -> list[Exception]:
    """Write responses in one transaction, and return the errors of those that can't be written.

    `patience` is how long to wait for others that do the same.
    """
    import filelock
    import sqlite_utils
    from llm.logs import LogStore
    from llm.migrations import migrate

    from .transaction import locked_database

    # llm migrates a log when it opens it; two processes doing so at the same time would damage it.
    # Nobody keeps this lock for long, not even while SQLite's own is taken.
    with filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=patience):
        if not path.exists():
            creation.create(path)
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            migrate(sqlite_utils.Database(connection))
            # A transaction that has begun by reading fails where it meets another writer, and so
            # might that of the caller: this one begins when nobody else has begun.
            connection.execute("begin exclusive")
            store = LogStore(locked_database(connection))
            problems = []
            for response in responses:
                try:
                    _insert(response, store)
                except Exception as error:
                    if len(responses) == 1:
                        raise
                    problems.append(error)
            connection.commit()
            return problems


def _insert(response: _BaseResponse, store: LogStore) -> None:
    if response.conversation is None:
        response.conversation = _conversation(response, _thread(store.db.conn, response.id))
    # This is what `log_to_db` does, but it would look at llm's migrations for each response.
    store.log(response._to_sync_response() if isinstance(response, llm.AsyncResponse) else response)


def _thread(connection: sqlite3.Connection, turn_id: str) -> str | None:
    """Return the thread in which somebody else has logged the turn, or None."""
    query = "select thread_id from turns where id = ?"
    row = connection.execute(query, (turn_id,)).fetchone()
    return row[0] if row else None


def _conversation(response: _BaseResponse, thread_id: str | None = None) -> Any:
    asynchronous = isinstance(response, llm.AsyncResponse)
    kind: Any = llm.AsyncConversation if asynchronous else llm.Conversation
    return kind(response.model, **({"id": thread_id} if thread_id else {}))
