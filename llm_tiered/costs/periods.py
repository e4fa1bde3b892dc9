"""Times as users write them → the period of a report."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from ..errors import RequestError
from ..log.database import as_logged

# An SQL condition on the rows of a period, for the values of `Period.bounds`.
WITHIN = "datetime_utc >= :since and datetime_utc < :until"

# Text that sorts after the time of any year.
_NEVER = "a"


class Period(NamedTuple):
    """The time from `since` (included) to `until` (excluded), both aware; None means no limit."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def bounds(self) -> dict[str, str]:
        """The values for WITHIN, as text that compares with the times in the log."""
        return {
            "since": as_logged(self.since) if self.since else "",
            "until": as_logged(self.until) if self.until else _NEVER,
        }


ALWAYS = Period()


def period_of(since: str | None, until: str | None, now: datetime | None = None) -> Period:
    """Return the period between two times as the user wrote them. Raises RequestError."""
    now = now or datetime.now().astimezone()
    start = None if since is None else span(since, now)[0]
    end = None if until is None else span(until, now)[1]
    if start and end and start >= end:
        raise RequestError(f"--since {since} is not before --until {until}")
    return Period(start, end)


def span(text: str, now: datetime) -> tuple[datetime, datetime]:
    """Return when a time that the user wrote begins and ends. Raises RequestError.

    A moment, or an age such as 7d, ends when it begins; a day ends when the next one begins.
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
            f"{text!r} is not a time",
            fix="for example 2026-11-01, 2026-11-01T15:00, 7d, today, yesterday",
        ) from None
    return moment, moment


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time()).astimezone()
