"""Responses that are logged at the same time share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm

from llm_tiered.log import writer

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.toys import Toys


async def test_written_together(
    toys: Toys, logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Many are written at a time; one that can't be is told, and the others are in the log."""
    toys.configure(log_api=True)
    model = llm.get_async_model("tiered")
    insert, groups = writer._insert, []

    def write(responses: Any, path: Path) -> list[Exception]:
        groups.append(len(responses))
        return write_responses(responses, path)

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
