"""What was measured, as medians: machines are noisy, so most figures have something beside them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, of one model where `model` says so.

    `value` is the median of all rounds. Where there is something to compare it with, `baseline`
    is the median of `against`, and `ratio` the median of value over baseline, each taken from
    the same round; half of the rounds were within `quartiles`. Units are s, ms, µs, bytes and
    tokens/s.
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
    rounds: int, one: Callable[[], float], other: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """Run two things as many times, now the one first and now the other."""
    for number in range(rounds):
        if number % 2:
            second = other()
            yield one(), second
        else:
            first = one()
            yield first, other()
