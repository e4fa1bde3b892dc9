"""The sums of a period: whole years, months and days of what is kept, row by row the rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from .periods import ALWAYS
from .requests import OtherModel, Range, earliest, first_request, read_other_models, read_turns
from .sums import AnswerSum, Sum, Sums
from .times import Times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .periods import Period
    from .requests import By, Route
    from .summed import PricedDay
    from .sums import Cell, GroupTimes
    from .times import Percentiles
    from .upkeep import CurrentSums


@dataclass
class RequestGroup:
    """The requests with one key: their sums by answer, why they fell back, and their times."""

    key: str | None
    sums: dict[Cell, AnswerSum] = field(default_factory=lambda: defaultdict(AnswerSum))
    fallbacks: Counter[str] = field(default_factory=Counter)
    latency: Percentiles | None = None
    first_output: Percentiles | None = None

    def add(self, route: Route, answer: Cell, total: Sum) -> None:
        """Add requests of one route; `answer` is their cell by the model that answered alone."""
        if route.fallback:
            self.fallbacks[route.fallback] += total.requests
        self.sums[answer].count(route, total)

    def set_percentiles(self, percentiles: Percentiles | None, *, whole: bool) -> None:
        """Set those of the times to the whole answer, or to the first output."""
        if whole:
            self.latency = percentiles
        else:
            self.first_output = percentiles


class _Groups(dict[str | None, RequestGroup]):
    """Groups by key, made when they are first asked for."""

    def __missing__(self, key: str | None) -> RequestGroup:
        group = self[key] = RequestGroup(key)
        return group


class Facts(NamedTuple):
    """What is the same in every grouping.

    `first` is the time of the first request in the period, `first_of_log` that of the first one in
    the log; `unreadable` is the number of damaged rows, `future` that of requests dated later than
    now.
    """

    first: str | None = None
    first_of_log: datetime | None = None
    others: list[OtherModel] = []  # noqa: RUF012 - read only
    unreadable: int = 0
    future: int = 0


@dataclass
class Selection:
    """The requests of a period.

    `days` and `spans` are those that are in it as a whole: spans are years, the months of other
    years, and the days of other months. `rows` are the sums over all other requests, of which
    `first` has the first time and `future` is the number of those dated later than now.
    """

    current: CurrentSums
    days: list[str]
    spans: list[str]
    first: str | None
    rows: Sums
    priced_day: PricedDay
    future: int = 0

    def facts(self) -> Facts:
        """Return what is the same in every grouping."""
        summed = self.current.store.summed
        with self.current.store.errors_explained():
            others = summed.others(self.spans)
            unreadable = summed.damaged(self.spans) + self.rows.unreadable.total()
        models: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
        parts = [(model, numbers) for model, *numbers in others]
        parts += [(model, numbers) for (_, model), numbers in self.rows.others.items()]
        for model, numbers in parts:
            models[model] = [one + more for one, more in zip(models[model], numbers, strict=True)]
        return Facts(
            self.first,
            self._first_of_log(),
            sorted(
                (OtherModel(model, *map(int, numbers)) for model, numbers in models.items()),
                key=lambda other: (-other.requests, other.model),
            ),
            unreadable,
            self.future,
        )

    def groups(self, by: By | None) -> list[RequestGroup]:
        """Return the requests in groups; without `by`, all are in one."""
        groups = _Groups()
        with self.current.store.errors_explained():
            if by == "day":
                self._add_days(groups)
            else:
                for route, answer, total in self._cells:
                    groups[getattr(route, by) if by else None].add(route, answer, total)
                for (key, whole), times in (self._times(by) if by else self._all_times).items():
                    groups[key].set_percentiles(times.percentiles, whole=whole)
        return [group for group in groups.values() if group.sums]

    @cached_property
    def _cells(self) -> list[tuple[Route, Cell, Sum]]:
        """The sums over all requests: route, cell by the model that answered alone, and sum."""
        totals: defaultdict[Cell, Sum] = defaultdict(Sum)
        kept = self.current.store.summed.cells(self.spans, self.priced_day)
        rows = ((self._without_days(cell), total) for cell, total in self.rows.cells.items())
        for cell, total in chain(kept, rows):
            totals[cell].merge(total)
        return [
            (cell.route, cell._replace(route=cell.route.answer), total)
            for cell, total in totals.items()
        ]

    def _without_days(self, cell: Cell) -> Cell:
        return cell._replace(span="", priced_on=self.priced_day(cell.route, cell.priced_on))

    def _times(self, by: str) -> dict[tuple[str | None, bool], Times]:
        """Return the times by key, and by whether they are those to the whole answer."""
        found: defaultdict[tuple[str | None, bool], Times] = defaultdict(Times)
        kept = self.current.store.summed.times(self.spans, by)
        for place, times in chain(kept, self._row_times.items()):
            if place.by == by:
                found[place.key, place.whole].merge(times)
        if by:
            # Requests without a key are what is left.
            for whole in (True, False):
                rest = found[None, whole]
                rest.merge(self._all_times[None, whole])
                for key, same in found:
                    if same == whole and key is not None:
                        rest.merge(found[key, whole], -1)
        return found

    @cached_property
    def _all_times(self) -> dict[tuple[str | None, bool], Times]:
        return self._times("")

    @cached_property
    def _row_times(self) -> dict[GroupTimes, Times]:
        return self.rows.group_times()

    def _add_days(self, groups: _Groups) -> None:
        summed = self.current.store.summed
        rows = (
            (cell.span, self._without_days(cell), answers)
            for cell, answers in self.rows.answers().items()
        )
        for day, cell, answers in chain(summed.answers(self.days, self.priced_day), rows):
            group = groups[day or None]
            group.fallbacks[""] += answers.fell_back
            if cell in group.sums:
                group.sums[cell].merge(answers)
            else:
                group.sums[cell] = answers
        for day, whole, percentiles in summed.percentiles(self.days):
            groups[day or None].set_percentiles(percentiles, whole=whole)
        row_times = {place: times for place, times in self._row_times.items() if not place.by}
        kept = dict(summed.times({place.span for place in row_times} & set(self.days), ""))
        for place, times in row_times.items():
            both = kept.get(place, Times())
            both.merge(times)
            groups[place.span or None].set_percentiles(both.percentiles, whole=place.whole)

    def _first_of_log(self) -> datetime | None:
        """The time of the request with the lowest id."""
        times = []
        for rows in self.current.latest:
            kept = self.current.store.first_request(rows.table)
            latest = first_request(self.current.log, rows)
            times.append(earliest(min(filter(None, (kept, latest)), default=None)))
        return min(filter(None, times), default=None)


def select(current: CurrentSums, period: Period, now: str, priced_day: PricedDay) -> Selection:
    """Return the requests of the period; `now` is as text that compares with times of the log.

    `priced_day` makes days equal on which requests of a route have the same prices.
    """
    days = current.store.days(period.bounds, now, always=period == ALWAYS)
    whole = {day: first for day, how, first in days if how == "whole"}
    spans = _spans({day: day in whole for day, _, _ in days})
    times = [first for first in whole.values() if first is not None]
    first, rows = min(times, default=None), Sums(last=False)
    selection = Selection(current, [*whole], spans, first, rows, priced_day)
    parts = [*current.latest]
    for day, how, _ in days:
        if how == "rows":
            parts += [Range(*block, day) for block in current.store.blocks_of(day)]
    for part in parts:
        for turn in _add_rows(selection, part, period):
            times.append(turn)
            selection.future += turn > now
    selection.first = min(times, default=None)
    return selection


def _spans(days: dict[str, bool], length: int = 4) -> list[str]:
    """Return the fewest years, months and days that have exactly the days that are True.

    `length` is that of the longest spans to begin with.
    """
    parts: defaultdict[str, dict[str, bool]] = defaultdict(dict)
    for day, is_whole in days.items():
        parts[day[:length]][day] = is_whole
    spans = []
    for span, members in parts.items():
        if all(members.values()):
            spans.append(span)
        elif any(members.values()):
            spans += _spans(members, length + 3)
    return spans


def _add_rows(selection: Selection, part: Range, period: Period) -> Iterator[str]:
    """Add some rows, and yield the times of the requests among them."""
    rows, log = selection.rows, selection.current.log
    for turn in read_turns(log, part, period):
        if isinstance(turn, str):
            rows.unreadable[turn] += 1
        else:
            rows.add(turn)
            yield turn.time
    for day, model, *numbers in read_other_models(log, part, period):
        rows.add_other(day, model, *numbers)
