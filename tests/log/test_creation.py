"""A log that is not there yet, or not whole."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import pytest
import sqlite_utils
from llm.logs import LogStore
from llm.migrations import MIGRATIONS, migrate

from llm_tiered.log import creation
from tests.make_log import empty_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.toys import Ask, Toys


def test_half_created_log(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is half created until all migrations are done; other files are not."""
    assert not creation.is_unfinished(logs)
    with closing(sqlite3.connect(logs)) as database:
        database.execute("create table other (id)")
        assert creation.is_unfinished(logs)
        with monkeypatch.context() as patch:
            patch.setattr("llm.migrations.MIGRATIONS", MIGRATIONS[:2])
            migrate(sqlite_utils.Database(database))
        assert creation.is_unfinished(logs)
    empty_log(logs)
    assert not creation.is_unfinished(logs)
    logs.write_bytes(b"no database" * 100)
    assert not creation.is_unfinished(logs)


def test_log_is_created_as_a_whole(toys: Toys, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process sees a log that is not complete, and nothing is left over."""
    toys.configure(log_api=True)
    link, seen = os.link, []

    def linking(new: Path, path: Path) -> None:
        seen.append((path.exists(), creation.is_unfinished(new)))
        link(new, path)

    monkeypatch.setattr("llm_tiered.log.creation.os.link", linking)
    llm.get_model("tiered").prompt("Hello", complexity=2).text()
    assert seen == [(False, False)]
    assert sorted(path.name for path in logs.parent.glob("logs*")) == ["logs.db", "logs.db.lock"]


@pytest.mark.parametrize("error", [FileExistsError, PermissionError])
def test_log_of_another_process(
    toys: Toys, logs: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """If the log can't be put in its place, the answer is logged as llm itself does it."""
    toys.configure(log_api=True)

    def linking(*_: Path) -> None:
        raise error

    monkeypatch.setattr("llm_tiered.log.creation.os.link", linking)
    llm.get_model("tiered").prompt("Hello", complexity=2).text()
    with closing(sqlite3.connect(logs)) as database:
        assert database.execute("select count(*) from turns").fetchall() == [(1,)]


async def test_log_that_is_being_created(
    ask: Ask,
    toys: Toys,
    logs: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A write that meets a log which another process has half created waits for all of it."""
    toys.configure(log_api=True)
    log, errors = LogStore.log, ["no such table: logs", "table threads already exists"]
    empty_log(logs)

    def half(store: LogStore, *args: Any) -> Any:
        if errors:
            raise sqlite3.OperationalError(errors.pop())
        return log(store, *args)

    monkeypatch.setattr(creation, "is_unfinished", lambda _: True)
    monkeypatch.setattr(LogStore, "log", half)
    await ask("Hello", complexity=2)
    assert [each for each in caplog.messages if "logged" in each] == []
    with closing(sqlite3.connect(logs)) as database:
        assert database.execute("select count(*) from turns").fetchall() == [(1,)]
