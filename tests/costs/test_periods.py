"""Periods, and how they select rows of the log."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from llm_tiered.costs.periods import ALWAYS, Period

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=2)))


def test_bounds() -> None:
    """The bounds are UTC in the form of the log, so that they compare with it as text."""
    assert Period(NOON, NOON).bounds == {
        "since": "2026-11-22T10:00:00",
        "until": "2026-11-22T10:00:00",
    }


def test_open_bounds() -> None:
    """An open period includes every time, even in the year 9999."""
    bounds = ALWAYS.bounds
    for year in ("0026", "2026", "9999"):
        assert bounds["since"] <= f"{year}-01-01T00:00:00" < bounds["until"]
