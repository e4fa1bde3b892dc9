"""The report on requests to `tiered`: what they cost, what the cloud would have cost, how fast."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import TieredError
from ..log.database import as_logged, has_requests, parse_time, reading
from .charges import cost_of_requests
from .periods import ALWAYS
from .prices import price_list, same_model, with_version
from .requests import Routes, first_request_time, read_other_models, read_routes
from .spending import read_unlogged
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .periods import Period
    from .prices import Energy, PriceList, Tokens
    from .requests import By, OtherModel, Requests, Route
    from .tally import Money

DAYS_A_YEAR = Decimal("365.25")

# How far in the future a request may be dated before the report mentions it.
_TOLERANCE = timedelta(minutes=1)


class Comparison(NamedTuple):
    """The id of the cloud model that costs are compared with, and what local power costs.

    Without a model, what the cloud would have cost is unknown; without `energy`, local answers
    cost nothing.
    """

    cloud_model: str | None = None
    energy: Energy | None = None


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
    return None if dollars is None else f"{dollars:.6f}"


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
            scope = _Scope(comparison, period, now, [], None, unlogged)
            return [_report(scope, by, Routes([], 0)) for by in groupings]
    with reading(database_path) as database:
        if not has_requests(database):
            raise TieredError(
                f"{database_path} is not an llm log, or is a very old one", fix="llm logs"
            )
        routes = read_routes(database, period, groupings)
        scope = _Scope(
            comparison,
            period,
            now,
            others=read_other_models(database, period),
            first_request=first_request_time(database),
            unlogged=read_unlogged(database_path, database, period),
        )
    return [_report(scope, by, each) for by, each in zip(groupings, routes, strict=True)]


@dataclass(frozen=True)
class _Scope:
    """What several reports on the same log have in common."""

    comparison: Comparison
    period: Period
    now: datetime
    others: list[OtherModel]
    first_request: datetime | None
    unlogged: Money | None

    def span(self, times: list[list[str]]) -> tuple[datetime | None, datetime]:
        """Return the first and last time at which requests were, or could have been, counted."""
        start = parse_time(min(map(min, times))) if times else None
        if self.period.since:
            first = self.first_request
            start = max(self.period.since, first) if first else self.period.since
        end = min(self.period.until, self.now) if self.period.until else self.now
        return start, max(start, end) if start else end


def _report(scope: _Scope, by: By | None, routes: Routes) -> SavingsReport:
    total, groups = Tally(), defaultdict[str | None, Tally](Tally)
    for route, requests in routes.requests:
        tally = groups[route.key]
        tally.add(route, requests)
        _add_money(tally, route, requests, scope.comparison)
    for tally in groups.values():
        total.merge(tally)
    times = [requests.times for _, requests in routes.requests]
    latest = as_logged(scope.now + _TOLERANCE)
    start, end = scope.span(times)
    return SavingsReport(
        period=scope.period,
        by=by,
        cloud_model=scope.comparison.cloud_model,
        start=start,
        end=end,
        total=total,
        groups=_in_order(groups, by),
        others=scope.others,
        unreadable=routes.unreadable,
        future=sum(time > latest for column in times for time in column),
        unlogged=scope.unlogged,
    )


def _add_money(tally: Tally, route: Route, requests: Requests, comparison: Comparison) -> None:
    """Add what the requests cost, and what their tokens would have cost in the cloud.

    For requests that the cloud model itself answered, the two are equal.
    """
    cloud_model, energy = comparison
    model = route.model and with_version(route.model, route.version)
    is_cloud_model = route.model and cloud_model and same_model(route.model, cloud_model)
    parts = _by_price(requests, model, model if is_cloud_model else cloud_model)
    for (paid, compared, counted, timed), part in parts.items():
        in_cloud = cost_of_requests(part, compared) if compared and counted else None
        spent: Decimal | None = Decimal(0)
        if not route.cached and not route.local:
            spent = cost_of_requests(part, paid) if paid and counted else None
        elif not route.cached and energy:
            spent = energy.cost(sum(filter(None, part.durations))) if timed else None
        saved = None if spent is None or in_cloud is None else in_cloud - spent
        tally.spent.add(spent, len(part))
        tally.in_cloud.add(in_cloud, len(part))
        tally.saved.add(saved, len(part))


def _by_price(
    requests: Requests, model: str | None, compared_with: str | None
) -> dict[tuple[PriceList | None, PriceList | None, bool, bool], Requests]:
    """Split requests into parts that can each be priced as a whole, or not at all.

    The keys are the prices of both models on the day, and whether the tokens and the duration are
    known.
    """

    def prices_on(day: str, name: str | None) -> PriceList | None:
        return price_list(name, date.fromisoformat(day)) if name else None

    def if_known(prices: PriceList | None, tokens: Tokens | None) -> PriceList | None:
        return prices if prices and (tokens is None or prices.cost(tokens) is not None) else None

    days = {time[:10] for time in requests.times}
    prices = {day: (prices_on(day, model), prices_on(day, compared_with)) for day in days}
    columns = (requests.input_tokens, requests.output_tokens, requests.durations)
    if len(set(prices.values())) == 1 and not any(None in column for column in columns):
        both = next(iter(prices.values()))
        if all(if_known(each, tokens) for each in both if each for tokens in requests.special):
            # The usual case, and much faster.
            return {(*both, True, True): requests}
    paid, compared = (
        [
            if_known(prices[time[:10]][place], tokens)
            for time, tokens in zip(requests.times, requests.special, strict=True)
        ]
        for place in range(2)
    )
    counted = [None not in pair for pair in zip(*columns[:2], strict=True)]
    timed = [ms is not None for ms in requests.durations]
    return requests.split(list(zip(paid, compared, counted, timed, strict=True)))


def _in_order(groups: dict[str | None, Tally], by: By | None) -> dict[str | None, Tally]:
    """Sort days by date, and other groups by the number of requests, largest first."""
    if by is None:
        return {}
    if by == "day":
        return dict(sorted(groups.items(), key=lambda item: item[0] or ""))
    return dict(sorted(groups.items(), key=lambda item: -item[1].requests))
