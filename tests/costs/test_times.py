"""Histograms of times: what is exact, how far off the rest is, and that they can be added up."""

from __future__ import annotations

import random
from statistics import quantiles

import pytest

from llm_tiered.costs.times import ERROR, EXACT_BELOW, Percentiles, Times


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([7], Percentiles(7, 7)),
        ([1, 2], Percentiles(1.5, 1.95)),
        (list(range(101)), Percentiles(50, 95)),
        ([5, 1, 3], Percentiles(3, 4.8)),
        ([0] * 19 + [100], Percentiles(0, 5)),
    ],
)
def test_percentiles(values: list[int], expected: Percentiles | None) -> None:
    """The 50th and the 95th percentile are interpolated between neighbours."""
    percentiles = Times.of(values).percentiles
    assert (percentiles and vars(percentiles)) == pytest.approx(expected and vars(expected))


def exact(values: list[int]) -> tuple[float, float]:
    """Return the exact percentiles."""
    cuts = quantiles(values, n=20, method="inclusive")
    return cuts[9], cuts[18]


def test_short_times_are_exact() -> None:
    """Percentiles of times below a quarter of a second are exact."""
    rng = random.Random(1)
    values = [rng.randrange(EXACT_BELOW) for _ in range(1000)]
    percentiles = Times.of(values).percentiles
    assert percentiles
    assert (percentiles.p50, percentiles.p95) == pytest.approx(exact(values))


def test_error() -> None:
    """Percentiles of any times are off by less than the stated share of themselves."""
    wrong = []
    for seed in range(60):
        rng = random.Random(seed)
        values = [int(rng.lognormvariate(8, seed % 5 + 0.1)) for _ in range(rng.randint(2, 400))]
        percentiles = Times.of(values).percentiles
        assert percentiles
        for mine, right in zip(vars(percentiles).values(), exact(values), strict=True):
            if abs(mine - right) > ERROR * right:
                wrong.append((seed, mine, right))
    assert wrong == []


def test_adding_and_taking_away() -> None:
    """Histograms add up to that of all times, and what is taken away leaves no trace."""
    rng = random.Random(2)
    some, more = ([int(rng.lognormvariate(7, 2)) for _ in range(300)] for _ in range(2))
    both = Times.of(some)
    both.merge(Times.of(more))
    assert both == Times.of(some + more)
    both.merge(Times.of(more), -1)
    assert both == Times.of(some)
    both.merge(Times.of(some), -1)
    assert not both
    assert both.percentiles is None


def test_bytes() -> None:
    """A histogram that was written is read again, even one that is to be taken away."""
    times = Times.of([5, 5, 700, 1 << 40])
    times.merge(Times.of([9, 9_000]), -1)
    assert Times.from_bytes(times.to_bytes()) == times
