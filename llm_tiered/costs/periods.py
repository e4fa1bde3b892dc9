"""Times as people write them → the period that is asked for."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from ..errors import RequestError


class Period(NamedTuple):
    """From when (included) to when (not included), both aware; None is open."""

    since: datetime | None = None
    until: datetime | None = None


ALWAYS = Period()


def period_of(since: str | None, until: str | None, now: datetime | None = None) -> Period:
    """The time between what was written, seen from now. Raises RequestError if it is none."""
    now = now or datetime.now().astimezone()
    start = None if since is None else span(since, now)[0]
    end = None if until is None else span(until, now)[1]
    if start and end and start >= end:
        raise RequestError(f"--since {since} is not before --until {until}")
    return Period(start, end)


def span(text: str, now: datetime) -> tuple[datetime, datetime]:
    """The moments at which what was written begins and ends. Raises RequestError if it is no time.

    A moment, or how long ago one was, ends where it begins; a day ends with the next one.
    """
    days = {"today": now.date(), "yesterday": now.date() - timedelta(days=1)}
    ago = re.fullmatch(r"(\d+)([hdw])", text)
    try:
        if ago:
            unit = {"h": "hours", "d": "days", "w": "weeks"}[ago[2]]
            moment = now - timedelta(**{unit: int(ago[1])})
            return moment, moment
        if text in days or re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            day = days.get(text) or date.fromisoformat(text)
            return _midnight(day), _midnight(day + timedelta(days=1))
        moment = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise RequestError(
            f"{text!r} is no time", fix="such as 2026-11-01, 2026-11-01T15:00, 7d, today, yesterday"
        ) from None
    return moment, moment


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time()).astimezone()
