"""What the requests to `tiered` cost, what they would have cost in the cloud, and how they went."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..errors import TieredError
from ..log import database as log_database
from . import prices
from . import requests as turns
from .periods import ALWAYS
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .periods import Period
    from .prices import PriceList
    from .requests import By, Requests, Route

DAYS_A_YEAR = Decimal("365.25")

# How far ahead of now a request may be dated before that is told.
_TOLERANCE = timedelta(minutes=1)


@dataclass(frozen=True)
class Report:
    """What was counted in a period.

    `start` and `end` are what the rates per month and year are worked out from; without any
    request, there may be no start. `unreadable` are rows that can't be understood: nothing of
    them is in any sum. `future` are requests dated later than now: they are in the sums.
    """

    period: Period
    by: By | None
    cloud_model: str | None
    start: datetime | None
    end: datetime
    total: Tally
    groups: dict[str | None, Tally]
    others: list[turns.Others]
    unreadable: int
    future: int

    @property
    def days(self) -> Decimal | None:
        """Length of the time that was counted; what is less than a day counts as one."""
        if self.start is None:
            return None
        return max(Decimal((self.end - self.start) / timedelta(days=1)), Decimal(1))

    @property
    def saved_per_year(self) -> Decimal | None:
        """Dollars, if it goes on like this."""
        saved, days = self.total.saved.dollars, self.days
        return None if saved is None or days is None else saved / days * DAYS_A_YEAR

    @property
    def saved_per_month(self) -> Decimal | None:
        """Dollars, if it goes on like this."""
        yearly = self.saved_per_year
        return None if yearly is None else yearly / 12

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
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
        }


def _text(dollars: Decimal | None) -> str | None:
    return None if dollars is None else f"{dollars:.6f}"


def report(  # noqa: PLR0913 - what is asked, nearly all of it with a default
    database_path: Path,
    *,
    cloud_model: str | None,
    period: Period = ALWAYS,
    by: By | None = None,
    energy: prices.Energy | None = None,
    now: datetime | None = None,
) -> Report:
    """What the log says of the requests to `tiered` in the period, in groups if `by` is given.

    `cloud_model` is what they are compared with; without one, what they would have cost is
    unknown. `energy` is what local answers cost; without it, nothing. Raises TieredError where
    the log can't be read.
    """
    [only] = reports(
        database_path, [by], cloud_model=cloud_model, period=period, energy=energy, now=now
    )
    return only


def reports(  # noqa: PLR0913 - as above
    database_path: Path,
    bys: Sequence[By | None],
    *,
    cloud_model: str | None,
    period: Period = ALWAYS,
    energy: prices.Energy | None = None,
    now: datetime | None = None,
) -> list[Report]:
    """The report in groups by each of these, of the same moment and much faster than one by one."""
    now = now or datetime.now(timezone.utc)
    with log_database.reading(database_path) as database:
        if not log_database.has_requests(database):
            raise TieredError(
                f"{database_path} is no log of llm, or a very old one", fix="llm logs"
            )
        each = turns.read_by(database, period, bys)
        others = turns.others(database, period)
        began = turns.first_time(database)
    return [
        _count(found, by, unreadable, others, began, cloud_model, period, energy, now)
        for by, (found, unreadable) in zip(bys, each, strict=True)
    ]


def _count(  # noqa: PLR0913, PLR0917 - what was asked and what was read
    found: list[tuple[Route, Requests]],
    by: By | None,
    unreadable: int,
    others: list[turns.Others],
    began: datetime | None,
    cloud_model: str | None,
    period: Period,
    energy: prices.Energy | None,
    now: datetime,
) -> Report:
    total, groups = Tally(), defaultdict[str | None, Tally](Tally)
    for route, requests in found:
        tally = groups[route.key]
        tally.add(route, requests)
        _charge(tally, route, requests, cloud_model, energy)
    for tally in groups.values():
        total.merge(tally)
    times = [requests.times for _, requests in found]
    latest = log_database.as_logged(now + _TOLERANCE)
    start, end = _span(times, period, began, now)
    return Report(
        period=period,
        by=by,
        cloud_model=cloud_model,
        start=start,
        end=end,
        total=total,
        groups=_in_order(groups, by),
        others=others,
        unreadable=unreadable,
        future=sum(time > latest for some in times for time in some),
    )


def _span(
    times: list[list[str]], period: Period, began: datetime | None, now: datetime
) -> tuple[datetime | None, datetime]:
    """From when to when requests were counted, or could have been."""
    start = log_database.parse(min(map(min, times))) if times else None
    if period.since:
        start = max(period.since, began) if began else period.since
    end = min(period.until, now) if period.until else now
    return start, max(start, end) if start else end


def _charge(
    tally: Tally,
    route: Route,
    requests: Requests,
    cloud_model: str | None,
    energy: prices.Energy | None,
) -> None:
    """Add what these requests cost, and what their tokens would have cost in the cloud.

    What the cloud model answered would have cost what it did cost.
    """
    model = route.model and prices.with_version(route.model, route.version)
    went_there = route.model and cloud_model and prices.same_model(route.model, cloud_model)
    parts = _alike(requests, model, model if went_there else cloud_model)
    for (paid, compared, counted, timed), part in parts.items():
        in_cloud = _price(part, compared) if compared and counted else None
        spent: Decimal | None = Decimal(0)
        if not route.cached and not route.local:
            spent = _price(part, paid) if paid and counted else None
        elif not route.cached and energy:
            spent = energy.cost(sum(filter(None, part.durations))) if timed else None
        saved = None if spent is None or in_cloud is None else in_cloud - spent
        tally.spent.add(spent, len(part))
        tally.in_cloud.add(in_cloud, len(part))
        tally.saved.add(saved, len(part))


def _alike(
    requests: Requests, model: str | None, compared_with: str | None
) -> dict[tuple[PriceList | None, PriceList | None, bool, bool], Requests]:
    """The requests by both models' prices on the day, and whether tokens and duration are known.

    Each part can be priced as a whole, or not at all.
    """

    def on(name: str | None, day: str) -> PriceList | None:
        return prices.price_list(name, date.fromisoformat(day)) if name else None

    days = {time[:10] for time in requests.times}
    lists = {day: (on(model, day), on(compared_with, day)) for day in days}
    columns = (requests.input_tokens, requests.output_tokens, requests.durations)
    if len(set(lists.values())) == 1 and not any(None in column for column in columns):
        # Nearly always, and much faster.
        return {(*lists.popitem()[1], True, True): requests}
    return requests.split(
        [
            (*lists[time[:10]], inputs is not None and outputs is not None, ms is not None)
            for time, inputs, outputs, ms in zip(requests.times, *columns, strict=True)
        ]
    )


def _price(requests: Requests, known: PriceList) -> Decimal:
    """Dollars for these requests, whose tokens are all known."""
    special = [tokens for tokens in requests.special if tokens]
    columns = requests.input_tokens, requests.output_tokens
    plain = prices.Tokens(
        *(
            sum(
                tokens or 0
                for tokens, alone in zip(column, requests.special, strict=True)
                if alone is None
            )
            if special
            else sum(filter(None, column))
            for column in columns
        )
    )
    costs = [known.cost(tokens) for tokens in special]
    return sum(costs, known.cost(plain, len(requests) - len(special)))


def _in_order(groups: dict[str | None, Tally], by: By | None) -> dict[str | None, Tally]:
    """Days from the first to the last, anything else by the number of requests."""
    if by is None:
        return {}
    if by == "day":
        return dict(sorted(groups.items(), key=lambda item: item[0] or ""))
    return dict(sorted(groups.items(), key=lambda item: -item[1].requests))
