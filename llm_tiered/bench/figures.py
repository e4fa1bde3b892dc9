"""What was measured, as medians: machines are noisy, so most figures have something beside them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, of one model where `model` says so.

    `value` is the median of all rounds, unless the name says otherwise. Where there is something
    to compare it with, `baseline` is the median of `against`, and `ratio` the median of value
    over baseline, each taken from the same round; half of the rounds were within `quartiles`.
    Units are s, ms, µs, bytes and tokens/s.
    """

    part: str
    name: str
    unit: str
    value: float
    model: str | None = None
    note: str | None = None
    against: str | None = None
    baseline: float | None = None
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class Failure:
    """A part that could not be measured, and why."""

    part: str
    model: str | None
    error: str


@dataclass(frozen=True)
class Measured:
    """A kind of figure, still without its values."""

    part: str
    model: str | None = None

    def alone(
        self, name: str, unit: str, values: Sequence[float], note: str | None = None
    ) -> Figure:
        """The median of the values."""
        return Figure(self.part, name, unit, median(values), self.model, note)

    def beside(
        self,
        name: str,
        unit: str,
        pairs: Sequence[tuple[float, float]],
        against: str,
        note: str | None = None,
    ) -> Figure:
        """The medians of pairs of value and baseline, and of their ratios."""
        values, baselines = zip(*pairs, strict=True)
        ratios = [value / max(baseline, 1e-9) for value, baseline in pairs]
        low, _, high = quantiles(ratios, n=4, method="inclusive") if ratios[1:] else ratios * 3
        return Figure(
            self.part,
            name,
            unit,
            median(values),
            self.model,
            note,
            against,
            median(baselines),
            median(ratios),
            (low, high),
        )


def in_turn(
    rounds: int, one: Callable[[int], T], other: Callable[[int], T]
) -> Iterator[tuple[T, T]]:
    """Run two things once in each round, now the one first and now the other."""
    for number in range(rounds):
        if number % 2:
            second = other(number)
            yield one(number), second
        else:
            first = one(number)
            yield first, other(number)


def warmed_up(rounds: int, one: Callable[[int], T], other: Callable[[int], T]) -> list[tuple[T, T]]:
    """The same, after a round that does not count: in it a GPU compiles what is new to it.

    For that, the sizes of all rounds have to be the same.
    """
    return list(in_turn(rounds + 1, one, other))[1:]


def as_text(value: float, unit: str) -> str:
    """A value as people read it: with its unit, and no more digits than mean something."""
    if unit == "bytes":
        value, unit = (value / 1e9, "GB") if value >= 1e9 else (value / 1e6, "MB")
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
