"""Confidence intervals, and whether one tier is worse than another on the same rows.

Scores are between 0 and 1. All intervals are 95% confidence intervals. The bootstrap draws the
same samples every time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

ALPHA = 0.05

# A tier counts as good as another if it is worse by less than this, a tenth of the scale.
MARGIN = 0.1

# The fewest rows for a bootstrap: with fewer, even equal scores can't exclude a loss of MARGIN. An
# event that never occurred in n rows may still have a probability of up to 3/n (Hanley and
# Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983).
FEWEST_GRADED = 30

SAMPLES = 2000
_SEED = 1
_Z = NormalDist().inv_cdf(1 - ALPHA / 2)

Verdict = Literal["as good", "worse", "too few"]


@dataclass(frozen=True)
class Interval:
    """A 95% confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The difference between two tiers on the same rows; below 0 the first one is worse.

    `p` is None if the test gives only an interval; `interval` is None if there are too few rows
    for one.
    """

    rows: int
    mean: float
    interval: Interval | None
    p: float | None
    verdict: Verdict
    test: str


def wilson(share: float, rows: int) -> Interval:
    """Return the score interval of a proportion (Wilson, "Probable inference", JASA 22, 1927).

    It also holds for the mean of scores between 0 and 1, which never vary more than 0 and 1 do.
    """
    centre = share + _Z**2 / (2 * rows)
    spread = _Z * sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    scale = 1 + _Z**2 / rows
    return Interval(max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0))


def bootstrap(values: Sequence[float]) -> Interval:
    """Return the percentile interval of a mean.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    draw = random.Random(_SEED)  # noqa: S311 - not a secret
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(SAMPLES))
    cut = round(SAMPLES * ALPHA / 2)
    return Interval(means[cut], means[-1 - cut])


def mcnemar(only_one: int, only_other: int) -> float:
    """Return the two-sided exact p-value of the rows that only one of two tiers passed.

    Under the null hypothesis, each of these rows is the toss of a fair coin (McNemar,
    Psychometrika 12, 1947; for comparing two models: Dietterich, Neural Computation 10, 1998).
    """
    tosses = only_one + only_other
    ways = tail = 1
    for heads in range(min(only_one, only_other)):
        ways = ways * (tosses - heads) // (heads + 1)
        tail += ways
    # The numbers are integers up to here, because they can be too large for floats.
    return min(float(2 * tail / 2**tosses), 1.0)


def newcombe(both: int, only_one: int, only_other: int, neither: int) -> Interval:
    """Return the interval of the difference of two proportions of the same rows.

    Method 10 of Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17, 1998. Its width is not zero even
    if the two never differ.
    """
    rows = both + only_one + only_other + neither
    one, other = (both + only_one) / rows, (both + only_other) / rows
    of_one, of_other = wilson(one, rows), wilson(other, rows)
    agreement: float = both * neither - only_one * only_other
    if agreement > 0:
        agreement = max(agreement - rows / 2, 0.0)
    product = (both + only_one) * (only_other + neither) * (both + only_other)
    product *= only_one + neither
    phi = agreement / sqrt(product) if product else 0.0

    def side(a: float, b: float) -> float:
        return sqrt(max(a**2 - 2 * phi * a * b + b**2, 0.0))

    return Interval(
        one - other - side(one - of_one.low, of_other.high - other),
        one - other + side(of_one.high - one, other - of_other.low),
    )


def mean_interval(scores: Sequence[float], *, graded: bool) -> Interval:
    """Return the interval of the mean score: by bootstrap for enough grades, otherwise Wilson's."""
    if graded and len(scores) >= FEWEST_GRADED:
        return bootstrap(scores)
    return wilson(fmean(scores), len(scores))


def compare(one: Sequence[float], other: Sequence[float], *, graded: bool) -> Difference:
    """Compare two tiers by their scores on the same rows, in the same order.

    `one` is worse if the test says so, and as good if it does not and the whole interval of the
    difference is above -MARGIN; otherwise there are too few rows. For rows that are passed or
    failed, the test is McNemar's exact test, with Newcombe's interval; for grades it is the paired
    bootstrap (Koehn, "Statistical significance tests for machine translation evaluation", EMNLP
    2004).

    There is no correction for multiple comparisons.
    """
    pairs = list(zip(one, other, strict=True))
    mean = fmean(a - b for a, b in pairs)
    if graded:
        interval = bootstrap([a - b for a, b in pairs]) if len(pairs) >= FEWEST_GRADED else None
        worse = interval is not None and interval.high < 0
        p, test = None, "paired bootstrap"
    else:
        both, only_one = pairs.count((1, 1)), pairs.count((1, 0))
        only_other, neither = pairs.count((0, 1)), pairs.count((0, 0))
        interval = newcombe(both, only_one, only_other, neither)
        p, test = mcnemar(only_one, only_other), "exact McNemar"
        worse = p < ALPHA and mean < 0
    good = interval is not None and interval.low > -MARGIN
    verdict: Verdict = "worse" if worse else "as good" if good else "too few"
    return Difference(len(pairs), mean, interval, p, verdict, test)
