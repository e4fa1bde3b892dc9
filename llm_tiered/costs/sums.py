"""Sums over requests, from which every report is made: numbers, units and times, by route."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from .prices import Tokens
from .requests import By, Route
from .shapes import PLAIN, Shape, price_day, price_length, shape_of
from .times import Times

if TYPE_CHECKING:
    from .requests import LoggedTurn

# The groupings whose keys are fields of the route.
BY_ROUTE: tuple[By, ...] = tuple(by for by in get_args(By) if by != "day")


class Cell(NamedTuple):
    """What the requests of one sum have in common.

    `span` is a day, a month or a year in this machine's time zone, or "" for requests whose time
    is damaged. `priced_on` is a day with the same prices. `counted` is whether the tokens are
    known, `timed` whether the durations are.
    """

    span: str
    route: Route
    priced_on: str
    shape: Shape
    counted: bool
    timed: bool


@dataclass
class Sum:
    """Sums over the requests of a cell.

    `input_tokens` and `output_tokens` are as they were reported; `amounts` are those of the units
    of the cell's shape, empty for PLAIN. `generated` tokens took `generating_ms`, answers from the
    cache left out.
    """

    amounts: tuple[int, ...] = ()
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    milliseconds: int = 0
    generated: int = 0
    generating_ms: int = 0

    def count(self, turn: LoggedTurn, amounts: tuple[int, ...]) -> None:
        """Add one request, with the units of its shape."""
        tokens, ms = turn.output_tokens or 0, turn.duration or 0
        self.requests += 1
        self.input_tokens += turn.input_tokens or 0
        self.output_tokens += tokens
        self.milliseconds += ms
        if tokens and ms and not turn.route.cached:
            self.generated += tokens
            self.generating_ms += ms
        if amounts:
            self.amounts = _sum(self.amounts, amounts, 1)

    def merge(self, other: Sum, sign: int = 1) -> None:
        """Add another sum of the same shape; with the sign -1, take it away again."""
        self.requests += sign * other.requests
        self.input_tokens += sign * other.input_tokens
        self.output_tokens += sign * other.output_tokens
        self.milliseconds += sign * other.milliseconds
        self.generated += sign * other.generated
        self.generating_ms += sign * other.generating_ms
        if other.amounts:
            self.amounts = _sum(self.amounts, other.amounts, sign)

    def numbers(self) -> tuple[Any, ...]:
        """Return all fields, in their order."""
        return tuple(vars(self).values())


def _sum(one: tuple[int, ...], other: tuple[int, ...], sign: int) -> tuple[int, ...]:
    if not one:
        one = (0,) * len(other)
    return tuple(mine + sign * more for mine, more in zip(one, other, strict=True))


@dataclass
class AnswerSum:
    """The sum over the answers of a model, and how many requests fell back to it."""

    total: Sum = field(default_factory=Sum)
    fell_back: int = 0

    def merge(self, other: AnswerSum) -> None:
        """Add another one."""
        self.total.merge(other.total)
        self.fell_back += other.fell_back

    def count(self, route: Route, total: Sum) -> None:
        """Add the requests of a route to this model."""
        self.total.merge(total)
        self.fell_back += total.requests if route.fallback else 0


class RouteTimes(NamedTuple):
    """Whose times are in a histogram: times to the whole answer, or to the first output."""

    span: str
    route: Route
    whole: bool


class GroupTimes(NamedTuple):
    """The same for a group; `by` is "" for all requests of the span."""

    span: str
    by: str
    key: str | None
    whole: bool


def _zeros() -> list[float]:
    return [0, 0, 0]


@dataclass
class Sums:
    """Sums over any number of requests.

    `others` has the number, input and output tokens of requests to other models than `tiered`,
    `unreadable` the number of damaged rows, both by span. If they are to `last`, all days and
    lengths with the same prices are one; finding out which they are takes 30 ms.
    """

    last: bool = True

    cells: dict[Cell, Sum] = field(default_factory=lambda: defaultdict(Sum))
    times: dict[RouteTimes, Times] = field(default_factory=lambda: defaultdict(Times))
    others: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(_zeros))
    unreadable: Counter[str] = field(default_factory=Counter)

    def add(self, turn: LoggedTurn) -> None:
        """Add a request."""
        counted = turn.input_tokens is not None and turn.output_tokens is not None
        shape, amounts = (
            shape_of(turn.special, price_length if self.last else int)
            if turn.special
            else (PLAIN, ())
        )
        timed = turn.duration is not None
        day = price_day(turn.time[:10]) if self.last else turn.time[:10]
        self.cells[Cell(turn.day, turn.route, day, shape, counted, timed)].count(turn, amounts)
        if turn.duration is not None:
            self.times[RouteTimes(turn.day, turn.route, whole=True)].add(turn.duration)
        if turn.first_output is not None:
            self.times[RouteTimes(turn.day, turn.route, whole=False)].add(turn.first_output)

    def add_other(self, span: str, model: str, *numbers: float) -> None:
        """Add requests to another model than `tiered`."""
        mine = self.others[span, model]
        self.others[span, model] = [one + more for one, more in zip(mine, numbers, strict=True)]

    def merge(self, other: Sums, sign: int = 1) -> None:
        """Add other sums; with the sign -1, take them away again."""
        for cell, total in other.cells.items():
            self.cells[cell].merge(total, sign)
        for key, times in other.times.items():
            self.times[key].merge(times, sign)
        for (span, model), numbers in other.others.items():
            self.add_other(span, model, *(sign * number for number in numbers))
        for span, number in other.unreadable.items():
            self.unreadable[span] += sign * number

    def group_times(self) -> dict[GroupTimes, Times]:
        """Return the times of each group.

        Requests without a key are in no group of that grouping: all others are the difference.
        """
        groups: dict[GroupTimes, Times] = defaultdict(Times)
        for (span, route, whole), times in self.times.items():
            groups[GroupTimes(span, "", None, whole)].merge(times)
            for by in BY_ROUTE:
                key = getattr(route, by)
                if key is not None:
                    groups[GroupTimes(span, by, key, whole)].merge(times)
        return groups

    def answers(self) -> dict[Cell, AnswerSum]:
        """Return the sums of each day by the model that answered alone."""
        answers: dict[Cell, AnswerSum] = defaultdict(AnswerSum)
        for cell, total in self.cells.items():
            answers[cell._replace(route=cell.route.answer)].count(cell.route, total)
        return answers

    def to_json(self) -> str:
        """Return the sums as text that `from_json` reads."""
        cells = [[*cell, *total.numbers()] for cell, total in self.cells.items()]
        times = [
            [*key, [[at, *each] for at, each in t.classes.items()]] for key, t in self.times.items()
        ]
        others = [[*key, *numbers] for key, numbers in self.others.items()]
        return json.dumps([cells, times, others, self.unreadable], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Sums:
        """Return what `to_json` wrote."""
        cells, times, others, unreadable = json.loads(text)
        sums = cls()
        sums.unreadable.update(unreadable)
        for span, route, day, shape, counted, timed, amounts, *numbers in cells:
            cell = Cell(span, Route(*route), day, shape_from_json(shape), counted, timed)
            sums.cells[cell] = Sum(tuple(amounts), *numbers)
        for span, route, whole, classes in times:
            key = RouteTimes(span, Route(*route), whole)
            sums.times[key] = Times({at: pair for at, *pair in classes})
        for span, model, *numbers in others:
            sums.others[span, model] = numbers
        return sums


def shape_from_json(parts: list[Any]) -> Shape:
    """Return the shape that was written as JSON."""
    length, context, units, priceable, alone = parts
    pairs = tuple((key, value) for key, value in context)
    return Shape(length, pairs, tuple(units), priceable, alone and Tokens(*alone))
