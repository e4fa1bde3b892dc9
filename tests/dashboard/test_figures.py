"""The figures are computed once for many pages, and again when the log has changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.money import Comparison
from llm_tiered.costs.savings import SavingsReport, savings_report, savings_reports
from llm_tiered.dashboard import figures
from llm_tiered.dashboard.figures import TimeRange, load_figures
from llm_tiered.errors import RequestError, TieredError
from llm_tiered.log import database as log_database
from tests.dashboard.conftest import NOW
from tests.make_log import add, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.costs.requests import By

ALL = TimeRange("", "")


def test_several_groupings(filled: Path) -> None:
    """Several reports from one pass are equal to single ones."""
    bys: tuple[By | None, ...] = (None, "day", "tier", "task", "model")
    together = savings_reports(filled, Comparison(), bys, now=NOW)
    for by, report in zip(bys, together, strict=True):
        alone = savings_report(filled, Comparison(), by=by, now=NOW)
        assert report.as_dict() == alone.as_dict()


def test_cache(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a minute, the figures of a log that did not change are computed once."""
    calls: list[list[SavingsReport]] = []
    original = savings_reports

    def counted(*args: Any, **kwargs: Any) -> list[SavingsReport]:
        calls.append(original(*args, **kwargs))
        return calls[-1]

    monkeypatch.setattr(figures, "savings_reports", counted)
    monkeypatch.setattr(figures, "_this_minute", lambda: NOW)
    assert load_figures(filled, ALL).total["requests"] == 4
    assert load_figures(filled, ALL).total["requests"] == 4
    assert len(calls) == 1
    add(filled, [turn(NOW)])
    assert load_figures(filled, ALL).total["requests"] == 5
    assert len(calls) == 2


def test_write_ahead_log(filled: Path) -> None:
    """Changes that are only in the write-ahead log count too."""
    with closing(sqlite3.connect(filled)) as writer:
        writer.execute("pragma journal_mode = wal")
        assert load_figures(filled, ALL).total["requests"] == 4
        writer.execute("update turns set model = 'other' where id = '1-here'")
        writer.commit()
        assert load_figures(filled, ALL).total["requests"] == 3


def test_invalid_time(filled: Path) -> None:
    """A text that is not a time is an error."""
    with pytest.raises(RequestError, match="'soon' is not a time"):
        load_figures(filled, TimeRange("soon", ""))


def test_a_locked_log(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process has locked the log, there is an error after a while."""
    monkeypatch.setattr(log_database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(filled, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked"):
            load_figures(filled, ALL)
        writer.execute("rollback")
