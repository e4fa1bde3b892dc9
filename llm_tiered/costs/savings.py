"""The report on requests to `tiered`: what they cost, what the cloud would have cost, how fast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..errors import TieredError
from ..log.database import as_logged, has_requests, parse_time, reading
from .money import Pricing
from .periods import ALWAYS
from .selection import Facts, select
from .tally import Tally
from .unlogged import read_unlogged
from .upkeep import with_sums

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .money import Comparison
    from .periods import Period
    from .requests import By, OtherModel
    from .selection import RequestGroup
    from .tally import Money
    from .upkeep import CurrentSums

DAYS_A_YEAR = Decimal("365.25")

# How far in the future a request may be dated before the report mentions it.
_TOLERANCE = timedelta(minutes=1)


@dataclass(frozen=True)
class SavingsReport:
    """The sums over the requests of a period.

    The rates per month and year are those between `start` and `end`; without any request there may
    be no start. `unreadable` is the number of damaged rows, which are in no sum. `future` is the
    number of requests dated later than now, which are in the sums. `unlogged` is what was spent,
    but is in no log, and so in no sum either; None means that it can't be read.
    """

    period: Period
    by: By | None
    cloud_model: str | None
    start: datetime | None
    end: datetime
    total: Tally
    groups: dict[str | None, Tally]
    others: list[OtherModel]
    unreadable: int
    future: int
    unlogged: Money | None

    @property
    def days(self) -> Decimal | None:
        """The number of days from start to end, at least one."""
        if self.start is None:
            return None
        return max(Decimal((self.end - self.start) / timedelta(days=1)), Decimal(1))

    @property
    def saved_per_year(self) -> Decimal | None:
        """Dollars at the rate of the period."""
        saved, days = self.total.saved.dollars, self.days
        return None if saved is None or days is None else saved / days * DAYS_A_YEAR

    @property
    def saved_per_month(self) -> Decimal | None:
        """Dollars at the rate of the period."""
        yearly = self.saved_per_year
        return None if yearly is None else yearly / 12

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON."""
        times = {
            "since": self.period.since,
            "until": self.period.until,
            "start": self.start,
            "end": self.end,
        }
        return {
            "period": {name: time and time.isoformat() for name, time in times.items()}
            | {"days": None if self.days is None else float(self.days)},
            "cloud_model": self.cloud_model,
            "total": self.total.as_dict(),
            "saved_per_month": _text(self.saved_per_month),
            "saved_per_year": _text(self.saved_per_year),
            "fallbacks": [
                {"reason": reason, "requests": requests, "rate": self.total.share(requests)}
                for reason, requests in self.total.fallbacks.most_common()
            ],
            "by": self.by,
            "groups": [{"key": key} | tally.as_dict() for key, tally in self.groups.items()],
            "other_models": [other._asdict() for other in self.others],
            "unreadable_rows": self.unreadable,
            "future_requests": self.future,
            "unlogged": self.unlogged and self.unlogged.as_dict(),
        }


def _text(dollars: Decimal | None) -> str | None:
    """Return dollars with six decimals, and with four significant digits if they are less."""
    if dollars is None:
        return None
    digits = max(6, 3 - dollars.adjusted()) if dollars else 6
    return f"{dollars:.{digits}f}"


def savings_report(
    database_path: Path,
    comparison: Comparison,
    *,
    period: Period = ALWAYS,
    by: By | None = None,
    now: datetime | None = None,
) -> SavingsReport:
    """Return the report on the requests in the period, in groups if `by` is given.

    Raises TieredError if the log can't be read.
    """
    [report] = savings_reports(database_path, comparison, [by], period=period, now=now)
    return report


def savings_reports(
    database_path: Path,
    comparison: Comparison,
    groupings: Sequence[By | None],
    *,
    period: Period = ALWAYS,
    now: datetime | None = None,
) -> list[SavingsReport]:
    """Return a report for each grouping: all as of the same moment, and faster than one by one.

    Without a log, it has what was spent all the same. Raises TieredError if the log can't be read,
    or if there is neither.
    """
    now = now or datetime.now(timezone.utc)
    if not database_path.exists():
        unlogged = read_unlogged(database_path, None, period)
        if unlogged is None or unlogged.priced or unlogged.unpriced:
            scope = _Scope(comparison, period, now, Facts(), unlogged)
            return [_report(scope, by, Tally(), {}) for by in groupings]
    with reading(database_path) as database:
        if not has_requests(database):
            raise TieredError(
                f"{database_path} is not an llm log, or is a very old one", fix="llm logs"
            )
        unlogged = read_unlogged(database_path, database, period)

    def use(sums: CurrentSums) -> list[SavingsReport]:
        pricing = Pricing(comparison)
        selection = select(sums, period, as_logged(now + _TOLERANCE), pricing.priced_day)
        scope = _Scope(comparison, period, now, selection.facts(), unlogged)

        def tallies(by: By | None) -> dict[str | None, Tally]:
            return {group.key: _tally(group, pricing) for group in selection.groups(by)}

        total = tallies(None).get(None, Tally())
        return [_report(scope, by, total, tallies(by) if by else {}) for by in groupings]

    return with_sums(database_path, use)


@dataclass(frozen=True)
class _Scope:
    """What several reports on the same log have in common."""

    comparison: Comparison
    period: Period
    now: datetime
    facts: Facts
    unlogged: Money | None

    @property
    def span(self) -> tuple[datetime | None, datetime]:
        """The first and last time at which requests were, or could have been, counted."""
        start = parse_time(self.facts.first) if self.facts.first else None
        if self.period.since:
            first = self.facts.first_of_log
            start = max(self.period.since, first) if first else self.period.since
        end = min(self.period.until, self.now) if self.period.until else self.now
        return start, max(start, end) if start else end


def _report(
    scope: _Scope, by: By | None, total: Tally, groups: dict[str | None, Tally]
) -> SavingsReport:
    start, end = scope.span
    return SavingsReport(
        period=scope.period,
        by=by,
        cloud_model=scope.comparison.cloud_model,
        start=start,
        end=end,
        total=total,
        groups=_in_order(groups, by),
        others=scope.facts.others,
        unreadable=scope.facts.unreadable,
        future=scope.facts.future,
        unlogged=scope.unlogged,
    )


def _tally(group: RequestGroup, pricing: Pricing) -> Tally:
    tally = Tally(fallbacks=group.fallbacks, latency=group.latency, first_output=group.first_output)
    for cell, answers in group.sums.items():
        tally.add(cell.route, answers.total, counted=cell.counted)
        pricing.add(tally, cell, answers.total)
    return tally


def _in_order(groups: dict[str | None, Tally], by: By | None) -> dict[str | None, Tally]:
    """Sort days by date, and other groups by the number of requests, largest first."""
    if by is None:
        return {}
    if by == "day":
        return dict(sorted(groups.items(), key=lambda item: item[0] or ""))
    return dict(sorted(groups.items(), key=lambda item: (-item[1].requests, str(item[0]))))
