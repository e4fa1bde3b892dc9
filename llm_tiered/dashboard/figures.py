"""What the charts show: the very figures of `llm tiered savings --json`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..costs.comparison import comparison_of_config
from ..costs.periods import Period, period_of
from ..costs.requests import By, first_request_time
from ..costs.savings import Comparison, savings_reports
from ..errors import TieredError
from ..log import database as log_database

if TYPE_CHECKING:
    from pathlib import Path

    from ..costs import prices

BYS: tuple[By, ...] = ("day", "tier", "task")

# What the page shows when nobody has said a time.
DEFAULT = "30d"

# Reports that are kept, a few hundred kilobytes each.
KEPT = 8

Report = dict[str, Any]


class Asked(NamedTuple):
    """The time that was asked for, in the words of `llm tiered savings`; empty is open."""

    since: str
    until: str


@dataclass(frozen=True)
class Figures:
    """The reports in groups by day, tier and task, and what went wrong on the way to them."""

    asked: Asked
    period: Period
    reports: dict[By, Report]
    problems: list[str]

    @property
    def total(self) -> Report:
        """The sums, which are the same in every report."""
        total: Report = self.reports["day"]["total"]
        return total


def load(path: Path, asked: Asked) -> Figures:
    """The figures of a log for the time that was asked for.

    They are those of the last full minute, so that they are worked out once for many pages. Raises
    RequestError if what was asked for is no time, TieredError where the log can't be read.
    """
    minute = _minute()
    period = period_of(asked.since or None, asked.until or None, minute.astimezone())
    found, problem = _configured(minute)
    reports = _reports(path, _stamp(path), period, found, minute)
    return Figures(asked, period, reports, [problem] if problem else [])


def _minute() -> datetime:
    return datetime.now(timezone.utc).replace(second=0, microsecond=0)


@lru_cache(maxsize=1)
def _configured(_minute: datetime) -> tuple[Comparison, str | None]:
    """What costs are worked out with; without it, what is wrong with the config."""
    try:
        return comparison_of_config(), None
    except TieredError as error:
        return Comparison(), str(error)


@lru_cache(maxsize=KEPT)
def _reports(
    path: Path,
    _changed: tuple[int, ...],
    period: Period,
    configured: Comparison,
    minute: datetime,
) -> dict[By, Report]:
    reports = savings_reports(path, configured, BYS, period=period, now=minute)
    return {by: report.as_dict() for by, report in zip(BYS, reports, strict=True)}


def _stamp(path: Path) -> tuple[int, ...]:
    """What differs once something was logged, also where SQLite keeps it in a file beside."""
    stamp: list[int] = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = file.stat()
        except OSError:
            continue
        stamp += [status.st_ino, status.st_size, status.st_mtime_ns]
    return tuple(stamp)


def energy() -> prices.Energy | None:
    """What the power here costs, if the config says so."""
    return _configured(_minute())[0].energy


def ever(path: Path) -> bool:
    """Whether the log has any request to `tiered`, whenever it was. Raises TieredError."""
    with log_database.reading(path) as database:
        return first_request_time(database) is not None
