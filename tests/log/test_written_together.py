"""Responses that are logged at the same time share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import llm

from llm_tiered.log import writer
from tests.log.test_writer import wait_for_backlog, warned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    from tests.toys import Ask, Toys


async def test_written_together(
    toys: Toys, logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Many are written at a time; one that can't be is told, and the others are in the log."""
    toys.configure(log_api=True)
    model = llm.get_async_model("tiered")
    insert, groups = writer._insert, []

    def write(responses: Any, *others: Any) -> list[Exception]:
        groups.append(len(responses))
        return write_responses(responses, *others)

    def fail_one(response: Any, database: Any) -> None:
        if response.prompt.prompt == "3":
            raise ValueError("no room")
        insert(response, database)

    write_responses = writer._write
    monkeypatch.setattr(writer, "_write", write)
    monkeypatch.setattr(writer, "_insert", fail_one)
    await asyncio.gather(*(model.prompt(str(n), complexity=2).text() for n in range(20)))
    with closing(sqlite3.connect(logs)) as database:
        [(turns, threads)] = database.execute(
            "select count(*), count(distinct thread_id) from turns"
        )
    assert (turns, threads) == (19, 19)
    assert len(groups) < 10
    assert "the answer could not be logged" in caplog.text


@contextmanager
def locked(logs: Path) -> Iterator[None]:
    """Keep the log locked."""
    with closing(sqlite3.connect(logs)) as other:
        other.execute("begin immediate")
        yield


async def test_log_that_stays_locked(
    ask: Ask,
    logs: Path,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Many answers don't wait for the log one after another: all that waited are given up."""
    asked = threading.Event()
    for name, seconds in (("PATIENCE", 0), ("PATIENCE_OF_CALLER", 0), ("_AT_LEAST", 0)):
        monkeypatch.setattr(writer, name, seconds)
    monkeypatch.setattr(writer, "_TOGETHER", 1)
    monkeypatch.setattr(writer, "_let_others_finish", asked.wait)
    with locked(logs):
        for _ in range(5):
            await ask("Hello", complexity=2)
        asked.set()
        wait_for_backlog()
    (warning,) = warned(caplog)
    assert warning.startswith("5 answers could not be logged")
    assert logged() == []


async def test_backlog_is_written_together(
    ask: Ask,
    logs: Path,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What waits for the log is written in its order, several at a time."""
    asked = threading.Event()
    write, groups = writer._write, []

    def count(responses: Any, *others: Any) -> list[Exception]:
        problems = write(responses, *others)
        groups.append(len(responses))
        return problems

    monkeypatch.setattr(writer, "PATIENCE_OF_CALLER", 0)
    monkeypatch.setattr(writer, "_TOGETHER", 2)
    monkeypatch.setattr(writer, "_write", count)
    monkeypatch.setattr(writer, "_let_others_finish", asked.wait)
    with locked(logs):
        ids = [(await ask("Hello", complexity=2)).id for _ in range(5)]
    asked.set()
    wait_for_backlog()
    # The first one may be tried alone, before the others come.
    assert len(groups) == 3
    assert [turn["id"] for turn in logged()] == ids
    assert warned(caplog) == []
