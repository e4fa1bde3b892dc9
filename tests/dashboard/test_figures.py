"""Figures are worked out once for many pages, and anew when something has changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.savings import (
    Comparison,
    SavingsReport,
    savings_report,
    savings_reports,
)
from llm_tiered.dashboard import figures
from llm_tiered.dashboard.figures import Asked
from llm_tiered.errors import RequestError, TieredError
from llm_tiered.log import database as log_database
from tests.dashboard.conftest import NOW
from tests.make_log import add, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.costs.requests import By

ALL = Asked("", "")


def test_reports_of_several_groupings_are_the_reports(filled: Path) -> None:
    """Several reports in one pass are what each of them is alone."""
    bys: tuple[By | None, ...] = (None, "day", "tier", "task", "model")
    together = savings_reports(filled, Comparison(), bys, now=NOW)
    for by, report in zip(bys, together, strict=True):
        alone = savings_report(filled, Comparison(), by=by, now=NOW)
        assert report.as_dict() == alone.as_dict()


def test_the_same_log_is_read_once(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a minute the figures of a log that did not change are kept."""
    made: list[list[SavingsReport]] = []
    original = savings_reports

    def counted(*args: Any, **kwargs: Any) -> list[SavingsReport]:
        made.append(original(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(figures, "savings_reports", counted)
    monkeypatch.setattr(figures, "_minute", lambda: NOW)
    assert figures.load(filled, ALL).total["requests"] == 4
    assert figures.load(filled, ALL).total["requests"] == 4
    assert len(made) == 1
    add(filled, [turn(NOW)])
    assert figures.load(filled, ALL).total["requests"] == 5
    assert len(made) == 2


def test_what_is_not_yet_in_the_file_counts(filled: Path) -> None:
    """A log in write-ahead mode is read anew too: what is new stands in a file beside it."""
    with closing(sqlite3.connect(filled)) as writer:
        writer.execute("pragma journal_mode = wal")
        assert figures.load(filled, ALL).total["requests"] == 4
        writer.execute("update turns set model = 'other' where id = '1-here'")
        writer.commit()
        assert figures.load(filled, ALL).total["requests"] == 3


def test_no_time(filled: Path) -> None:
    """What is no time is an error for people."""
    with pytest.raises(RequestError, match="'soon' is not a time"):
        figures.load(filled, Asked("soon", ""))


def test_a_locked_log(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that another process holds is told as such, after some patience."""
    monkeypatch.setattr(log_database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(filled, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked"):
            figures.load(filled, ALL)
        writer.execute("rollback")
