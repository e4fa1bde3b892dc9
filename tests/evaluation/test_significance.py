"""The statistics: values from the papers, and verdicts that need enough evidence."""

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

# Whether each of two tiers passes a row.
PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


def rounded(interval: Interval) -> tuple[float, float]:
    """The interval with four digits, as in the papers."""
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
    """The intervals are those of Newcombe, Statistics in Medicine 17 (1998), 857-872, table I."""
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
    """The p-value adds both tails of the binomial distribution of a fair coin."""
    assert mcnemar(only_one, only_other) == pytest.approx(expected)


def test_mcnemar_of_many() -> None:
    """The p-value of thousands of rows is exact and does not overflow."""
    assert mcnemar(3000, 3000) == 1
    assert 0 < mcnemar(2800, 3200) < 1e-6


def test_newcombe() -> None:
    """The interval agrees with Newcombe, Statistics in Medicine 17 (1998), 2635-2650, method 10."""
    assert rounded(newcombe(36, 12, 2, 0)) == (0.0569, 0.3404)


def test_newcombe_without_differences() -> None:
    """If two tiers never differ, the interval is as wide as that of a single proportion."""
    interval = newcombe(50, 0, 0, 0)
    assert interval.high == -interval.low == pytest.approx(1 - wilson(1, 50).low)


@given(*[st.integers(0, 60)] * 4)
def test_newcombe_is_symmetric(both: int, one: int, other: int, neither: int) -> None:
    """The interval contains the difference, and is mirrored if the two are exchanged."""
    rows = both + one + other + neither
    if rows:
        interval = newcombe(both, one, other, neither)
        mirrored = newcombe(both, other, one, neither)
        assert interval.low <= (one - other) / rows <= interval.high
        assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low))


def test_bootstrap_of_many_rows() -> None:
    """For many rows the interval is close to the one of the normal distribution."""
    values = [0.0, 1.0] * 200
    interval = bootstrap(values)
    assert interval.low == pytest.approx(0.5 - 1.96 * sqrt(0.25 / 400), abs=0.01)
    assert interval.high == pytest.approx(0.5 + 1.96 * sqrt(0.25 / 400), abs=0.01)


def test_bootstrap_is_reproducible() -> None:
    """The same scores give the same interval, which contains their mean."""
    values = [index % 11 / 10 for index in range(100)]
    interval = bootstrap(values)
    assert interval == bootstrap(values)
    assert interval.low < fmean(values) < interval.high


def test_few_grades() -> None:
    """The interval of a few equal grades is as wide as that of as many passed rows."""
    assert mean_interval([0.7] * 5, graded=True) == wilson(0.7, 5)
    assert mean_interval([0.7] * FEWEST_GRADED, graded=True) == pytest.approx(Interval(0.7, 0.7))


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, "too few"), (20, "too few"), (34, "too few"), (35, "as good")]
)
def test_equal_tiers(rows: int, expected: str) -> None:
    """Two tiers that get everything right are as good if there are enough rows."""
    difference = compare([1] * rows, [1] * rows, graded=False)
    assert (difference.verdict, difference.mean, difference.p) == (expected, 0, 1)


def test_a_worse_tier() -> None:
    """A tier that fails six more rows and passes no others is worse; five rows are too few."""
    for failed, expected in ((6, "worse"), (5, "too few")):
        difference = compare([0] * failed + [1] * 40, [1] * (failed + 40), graded=False)
        assert (difference.verdict, difference.test) == (expected, "exact McNemar")


def test_a_better_tier() -> None:
    """A tier that is significantly better is as good."""
    difference = compare([1] * 60, [0] * 30 + [1] * 30, graded=False)
    assert (difference.verdict, difference.mean) == ("as good", 0.5)


def test_a_loss_within_the_margin() -> None:
    """A tier that is significantly worse is worse, even if the difference is within the margin."""
    difference = compare([0] * 20 + [1] * 980, [1] * 1000, graded=False)
    assert difference.verdict == "worse"
    assert difference.interval
    assert difference.interval.low > -MARGIN


@given(PAIRS)
def test_no_claim_without_evidence(pairs: list[tuple[bool, bool]]) -> None:
    """A tier that is as good loses less than the margin; equal tiers need at least 25 rows."""
    one, other = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    difference = compare(one, other, graded=False)
    assert difference.interval
    if difference.verdict == "as good":
        assert difference.interval.low > -MARGIN
        assert len(pairs) >= 25 or difference.mean > 0
    if difference.verdict == "worse":
        assert difference.p is not None
        assert difference.p < 0.05


def test_graded() -> None:
    """Grades are compared row by row: a small loss on every row is significant."""
    better = [0.5 + index % 5 / 10 for index in range(40)]
    worse = [score - 0.02 for score in better]
    assert compare(worse, better, graded=True).verdict == "worse"
    assert compare(better, better, graded=True).verdict == "as good"
    shuffled = better[1:] + better[:1]
    difference = compare(shuffled, better, graded=True)
    assert (difference.verdict, difference.p, difference.test) == (
        "as good",
        None,
        "paired bootstrap",
    )


@pytest.mark.parametrize("loss", [0.0, 0.5])
def test_few_graded_rows(loss: float) -> None:
    """With fewer rows than the rule of three requires, grades give no verdict, not even a loss."""
    rows = FEWEST_GRADED - 1
    difference = compare([1 - loss] * rows, [1.0] * rows, graded=True)
    assert (difference.verdict, difference.interval) == ("too few", None)
