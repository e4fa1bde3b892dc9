"""Periods, and how they select rows of the log."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from llm_tiered.costs import requests
from llm_tiered.costs.periods import ALWAYS, Period, span
from llm_tiered.costs.spending import period_starts
from llm_tiered.dashboard import queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


# Zones whose clocks change at midnight or at one, by half an hour or more, and an ordinary one.
ZONES = (
    *("America/Santiago", "Africa/Cairo", "Asia/Beirut", "Atlantic/Azores", "America/Havana"),
    *("Australia/Lord_Howe", "America/Asuncion", "Europe/Paris", "UTC"),
)


@pytest.fixture
def in_zone() -> Iterator[Callable[[str], None]]:
    """Set this machine's time zone, and set it back."""
    with pytest.MonkeyPatch.context() as patch:

        def choose(zone: str) -> None:
            patch.setenv("TZ", zone)
            time.tzset()

        yield choose
    time.tzset()


def changes(zone: str, year: int) -> list[date]:
    """Return the days on which the clocks of a zone change, and the days around them."""
    noon = datetime(year, 1, 1, 12, tzinfo=ZoneInfo(zone))
    days = [noon + timedelta(days=day) for day in range(366)]
    return sorted(
        {
            (day + timedelta(days=around)).date()
            for day, after in pairwise(days)
            if day.utcoffset() != after.utcoffset()
            for around in (-1, 0, 1, 2)
        }
    ) or [noon.date()]


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_has_one_meaning(zone: str, in_zone: Callable[[str], None]) -> None:
    """Periods, budgets, Python and SQLite agree on the day of every moment, whatever clocks do."""
    in_zone(zone)
    wrong: list[object] = []
    with closing(sqlite3.connect(":memory:")) as database:
        for day in [each for year in (2024, 2026) for each in changes(zone, year)]:
            begins, ends = span(day.isoformat(), datetime.now().astimezone())
            moments = {
                begins - timedelta(seconds=1): day - timedelta(days=1),
                begins: day,
                begins + timedelta(minutes=45): day,
                begins + timedelta(hours=12): day,
                ends - timedelta(seconds=1): day,
                ends: day + timedelta(days=1),
            }
            for moment, expected in moments.items():
                utc = moment.astimezone(timezone.utc)
                [by_sql] = database.execute(f"select {DAY_SQL}", {"at": utc.isoformat()}).fetchone()
                budget_day, budget_month = period_starts(utc)
                facts = {
                    "python": utc.astimezone().date(),
                    "zone": utc.astimezone(ZoneInfo(zone)).date(),
                    "sql": date.fromisoformat(by_sql),
                    "budget": budget_day.date(),
                }
                if set(facts.values()) != {expected} or not budget_month <= budget_day <= moment:
                    wrong.append((day, moment, facts))
                if expected == day and budget_day != begins:
                    wrong.append((day, moment, budget_day))
    assert wrong == []


DAY_SQL = "date(:at, 'localtime')"


def test_sql_of_reports() -> None:
    """The SQL whose days are tested here is that of the reports and of the dashboard."""
    assert DAY_SQL.replace(":at", "datetime_utc") in requests.DAY
    assert DAY_SQL.replace(":at", "datetime_utc") in queries._REQUESTS


@pytest.mark.parametrize(
    ("zone", "text", "begins"),
    [
        ("America/Santiago", "2026-09-06", "2026-09-06T04:00"),
        ("America/Santiago", "2026-09-06T00:30", "2026-09-06T04:30"),
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00"),
        ("Atlantic/Azores", "2026-10-25", "2026-10-25T00:00"),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00"),
    ],
)
def test_times_that_clocks_leave_out_or_repeat(
    zone: str, text: str, begins: str, in_zone: Callable[[str], None]
) -> None:
    """A midnight that does not exist is the first moment after it, and the first of two counts."""
    in_zone(zone)
    start, _ = span(text, datetime.now().astimezone())
    assert start == datetime.fromisoformat(begins).replace(tzinfo=timezone.utc)
