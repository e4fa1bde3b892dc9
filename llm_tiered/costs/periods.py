"""Times as users write them → the period of a report."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
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
            return start_of_day(day), start_of_day(day + timedelta(days=1))
        moment = _aware(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise RequestError(
            f"{text!r} is not a time",
            fix="for example 2026-11-01, 2026-11-01T15:00, 7d, today, yesterday",
        ) from None
    return moment, moment


def start_of_day(day: date) -> datetime:
    """Return the first moment of a day in this machine's time zone: the one meaning of a day.

    Where clocks change at midnight, that may be one o'clock, or the first of two midnights.
    SQLite's `date(…, 'localtime')` puts all moments from there on into that day.
    """
    return _aware(datetime.combine(day, time()))


def _aware(moment: datetime) -> datetime:
    """Return a time, local unless it says otherwise, with its offset; the first if there are two.

    `astimezone` alone is an hour wrong for a time that the clocks leave out.
    """
    return datetime.fromtimestamp(moment.timestamp(), timezone.utc).astimezone()
