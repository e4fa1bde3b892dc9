"""The figures behind the charts: those of `llm tiered savings --json`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..costs.comparison import comparison_of_config
from ..costs.money import Comparison
from ..costs.periods import Period, period_of
from ..costs.requests import By, Range, has_turns
from ..costs.savings import savings_reports
from ..errors import TieredError
from ..log.database import TABLES, reading
from ..paths import ledger_path
from .amounts import money

if TYPE_CHECKING:
    from pathlib import Path

    from ..costs.prices import Energy

GROUPINGS: tuple[By, ...] = ("day", "tier", "task")

# The period that the page shows at first.
DEFAULT_SINCE = "30d"

# Number of reports that are cached, a few hundred kilobytes each.
CACHED_REPORTS = 8

ReportJson = dict[str, Any]


class TimeRange(NamedTuple):
    """The period that the user typed, in the words of `llm tiered savings`; empty is open."""

    since: str
    until: str


@dataclass(frozen=True)
class Figures:
    """The reports by day, tier and task, and the problem with the config, if there is one."""

    period: Period
    reports: dict[By, ReportJson]
    problem: str | None

    @property
    def total(self) -> ReportJson:
        """The sums over all requests, which are the same in every report."""
        total: ReportJson = self.reports["day"]["total"]
        return total

    @property
    def unlogged(self) -> str:
        """What was spent on attempts that are in no log, or "" if nothing was."""
        amount = self.reports["day"]["unlogged"]
        if amount is None:
            return "unknown"
        is_nothing = amount["dollars"] == "0" and not amount["unpriced_requests"]
        return "" if is_nothing else money(amount)


def load_figures(path: Path, times: TimeRange) -> Figures:
    """Return the figures of a log.

    They are as of the last full minute, so that many pages share one computation. Raises
    RequestError if a time is invalid, TieredError if the log can't be read.
    """
    minute = _this_minute()
    period = period_of(times.since or None, times.until or None, minute.astimezone())
    comparison, problem = _comparison(minute)
    state = _file_state(path) + _file_state(ledger_path())
    reports = _reports(path, state, period, comparison, minute)
    return Figures(period, reports, problem)


def energy_price() -> Energy | None:
    """Return the price of local power, if the config has one."""
    return _comparison(_this_minute())[0].energy


def has_requests_to_tiered(path: Path) -> bool:
    """Return whether the log has any request to `tiered`. Raises TieredError."""
    with reading(path) as database:
        return any(has_turns(database, Range(table)) for table in TABLES)


def _this_minute() -> datetime:
    return datetime.now(timezone.utc).replace(second=0, microsecond=0)


@lru_cache(maxsize=1)
def _comparison(_minute: datetime) -> tuple[Comparison, str | None]:
    """Return the comparison that the config asks for, or an empty one and the config's mistake."""
    try:
        return comparison_of_config(), None
    except TieredError as error:
        return Comparison(), str(error)


@lru_cache(maxsize=CACHED_REPORTS)
def _reports(
    path: Path,
    _state: tuple[int, ...],
    period: Period,
    comparison: Comparison,
    minute: datetime,
) -> dict[By, ReportJson]:
    reports = savings_reports(path, comparison, GROUPINGS, period=period, now=minute)
    return {by: report.as_dict() for by, report in zip(GROUPINGS, reports, strict=True)}


def _file_state(path: Path) -> tuple[int, ...]:
    """Return numbers that change with every write to a database, also to its write-ahead log."""
    state: list[int] = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = file.stat()
        except OSError:
            continue
        state += [status.st_ino, status.st_size, status.st_mtime_ns]
    return tuple(state)
