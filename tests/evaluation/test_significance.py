"""The statistics: values from the papers, and what must never be claimed."""

from __future__ import annotations

from math import sqrt
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_tiered.evaluation.significance import (
    FEWEST_GRADED,
    MARGIN,
    Interval,
    bootstrap,
    compare,
    mcnemar,
    mean_interval,
    newcombe,
    wilson,
)

# Pass or fail for one tier and another on the same rows.
PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


def rounded(interval: Interval) -> tuple[float, float]:
    """The interval with four digits, as papers print them."""
    return round(interval.low, 4), round(interval.high, 4)


@pytest.mark.parametrize(
    ("passed", "rows", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (29, 29, (0.8830, 1.0)),
    ],
)
def test_wilson(passed: int, rows: int, expected: tuple[float, float]) -> None:
    """The examples of Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3."""
    assert rounded(wilson(passed / rows, rows)) == expected


@pytest.mark.parametrize(
    ("only_one", "only_other", "expected"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 32),
        (0, 6, 2 / 64),
        (2, 12, 212 / 16384),
        (12, 2, 212 / 16384),
        (1, 9, 22 / 1024),
    ],
)
def test_mcnemar(only_one: int, only_other: int, expected: float) -> None:
    """It is the binomial distribution of a fair coin, both ends added up."""
    assert mcnemar(only_one, only_other) == pytest.approx(expected)


def test_mcnemar_of_many() -> None:
    """Thousands of rows are counted exactly, without an overflow."""
    assert mcnemar(3000, 3000) == 1
    assert 0 < mcnemar(2800, 3200) < 1e-6


def test_newcombe() -> None:
    """The first example of Newcombe, Statistics in Medicine 17 (1998), 2635-2650, method 10."""
    assert rounded(newcombe(36, 12, 2, 0)) == (0.0569, 0.3404)


def test_newcombe_without_differences() -> None:
    """Where two never differ the interval has a width, which is that of the share by itself."""
    found = newcombe(50, 0, 0, 0)
    assert found.high == -found.low == pytest.approx(1 - wilson(1, 50).low)


@given(*[st.integers(0, 60)] * 4)
def test_newcombe_turned_around(both: int, one: int, other: int, neither: int) -> None:
    """It holds the difference, stays within -1 and 1 or near, and turns around with its sides."""
    rows = both + one + other + neither
    if rows:
        found, turned = newcombe(both, one, other, neither), newcombe(both, other, one, neither)
        assert found.low <= (one - other) / rows <= found.high
        assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_bootstrap_is_the_normal_one_for_many() -> None:
    """For many rows it is about what the normal distribution gives."""
    values = [0.0, 1.0] * 200
    found = bootstrap(values)
    assert found.low == pytest.approx(0.5 - 1.96 * sqrt(0.25 / 400), abs=0.01)
    assert found.high == pytest.approx(0.5 + 1.96 * sqrt(0.25 / 400), abs=0.01)


def test_bootstrap_repeats() -> None:
    """The same scores give the same interval, which holds their mean."""
    values = [index % 11 / 10 for index in range(100)]
    found = bootstrap(values)
    assert found == bootstrap(values)
    assert found.low < fmean(values) < found.high


def test_few_grades() -> None:
    """A few equal grades are no certainty: their interval is as wide as that of passes."""
    assert mean_interval([0.7] * 5, graded=True) == wilson(0.7, 5)
    assert mean_interval([0.7] * FEWEST_GRADED, graded=True) == pytest.approx(Interval(0.7, 0.7))


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, "too few"), (20, "too few"), (34, "too few"), (35, "as good")]
)
def test_equal_tiers(rows: int, expected: str) -> None:
    """Two tiers that get everything right are as good once there are rows enough to say so."""
    found = compare([1] * rows, [1] * rows, graded=False)
    assert (found.verdict, found.mean, found.p) == (expected, 0, 1)


def test_a_worse_tier() -> None:
    """A tier that fails six rows more, and passes none more, is worse; five are not enough."""
    for failed, expected in ((6, "worse"), (5, "too few")):
        found = compare([0] * failed + [1] * 40, [1] * (failed + 40), graded=False)
        assert (found.verdict, found.test) == (expected, "exact McNemar")


def test_a_better_tier() -> None:
    """A tier that is significantly better is as good."""
    found = compare([1] * 60, [0] * 30 + [1] * 30, graded=False)
    assert (found.verdict, found.mean) == ("as good", 0.5)


def test_a_loss_within_the_margin() -> None:
    """A tier that is a little worse, for sure, is worse: the margin is for what can't be told."""
    found = compare([0] * 20 + [1] * 980, [1] * 1000, graded=False)
    assert found.verdict == "worse"
    assert found.interval
    assert found.interval.low > -MARGIN


@given(PAIRS)
def test_no_claim_without_evidence(pairs: list[tuple[bool, bool]]) -> None:
    """What is called as good may lose less than the margin, and fewer than 25 rows say nothing."""
    found = compare([float(a) for a, _ in pairs], [float(b) for _, b in pairs], graded=False)
    assert found.interval
    if found.verdict == "as good":
        assert found.interval.low > -MARGIN
        assert len(pairs) >= 25 or found.mean > 0
    if found.verdict == "worse":
        assert found.p is not None
        assert found.p < 0.05


def test_graded() -> None:
    """Grades are compared row by row: a small loss on every row is a sure one."""
    better = [0.5 + index % 5 / 10 for index in range(40)]
    worse = [score - 0.02 for score in better]
    assert compare(worse, better, graded=True).verdict == "worse"
    assert compare(better, better, graded=True).verdict == "as good"
    shuffled = better[1:] + better[:1]
    found = compare(shuffled, better, graded=True)
    assert (found.verdict, found.p, found.test) == ("as good", None, "paired bootstrap")


@pytest.mark.parametrize("loss", [0.0, 0.5])
def test_few_graded_rows(loss: float) -> None:
    """With fewer rows than the rule of three asks for, grades tell nothing, not even a loss."""
    rows = FEWEST_GRADED - 1
    found = compare([1 - loss] * rows, [1.0] * rows, graded=True)
    assert (found.verdict, found.interval) == ("too few", None)
