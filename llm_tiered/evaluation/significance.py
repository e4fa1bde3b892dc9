"""How sure a figure is, and whether one tier is worse than another on the same prompts.

Scores are between 0 and 1. All intervals are at 95 %. The bootstrap always draws the same samples.
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

# What a tier that counts as good as another may be worse by, at most: a tenth of the whole scale.
MARGIN = 0.1

# With fewer rows a bootstrap says nothing: however equal the scores are, it can't exclude a loss of
# MARGIN. What was never seen in n rows still happens in up to 3/n of them (Hanley and
# Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983).
FEWEST_GRADED = 30

SAMPLES = 2000
_SEED = 1
_Z = NormalDist().inv_cdf(1 - ALPHA / 2)

Verdict = Literal["as good", "worse", "too few"]


@dataclass(frozen=True)
class Interval:
    """Where a figure lies, with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much better one tier is than another on the same rows; below 0 it is worse.

    `p` is None where the test gives an interval only, and the interval where there are too few
    rows for one.
    """

    rows: int
    mean: float
    interval: Interval | None
    p: float | None
    verdict: Verdict
    test: str


def wilson(share: float, rows: int) -> Interval:
    """The score interval of a share of so many rows (Wilson, "Probable inference", JASA 22, 1927).

    For the mean of scores between 0 and 1 it is wide enough: none vary more than 0 and 1 do.
    """
    centre = share + _Z**2 / (2 * rows)
    spread = _Z * sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    scale = 1 + _Z**2 / rows
    return Interval(max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0))


def bootstrap(values: Sequence[float]) -> Interval:
    """The percentile interval of a mean.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    draw = random.Random(_SEED)  # noqa: S311 - no secret
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(SAMPLES))
    cut = round(SAMPLES * ALPHA / 2)
    return Interval(means[cut], means[-1 - cut])


def mcnemar(only_one: int, only_other: int) -> float:
    """The p-value, two-sided and exact, of rows that only one of two passed.

    If both were as good, each of these rows would be a toss of a coin (McNemar, Psychometrika 12,
    1947; for comparing two models: Dietterich, Neural Computation 10, 1998).
    """
    tosses = only_one + only_other
    ways = tail = 1
    for heads in range(min(only_one, only_other)):
        ways = ways * (tosses - heads) // (heads + 1)
        tail += ways
    # Whole numbers up to here: they are too large for floats.
    return min(float(2 * tail / 2**tosses), 1.0)


def newcombe(both: int, only_one: int, only_other: int, neither: int) -> Interval:
    """The interval of the difference of two shares of the same rows: method 10 of Newcombe.

    "Improved confidence intervals for the difference between binomial proportions based on paired
    data", Statistics in Medicine 17, 1998. It has a width where the two never differ.
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
    """Where the mean of the scores lies: by the bootstrap for enough grades, else by Wilson."""
    if graded and len(scores) >= FEWEST_GRADED:
        return bootstrap(scores)
    return wilson(fmean(scores), len(scores))


def compare(one: Sequence[float], other: Sequence[float], *, graded: bool) -> Difference:
    """Whether the first is worse than the other; the scores are of the same rows, in order.

    It is worse if a test says so, and as good if none does and the interval of the difference ends
    above -MARGIN. Otherwise there are too few rows to tell. The test is McNemar's, exact, with
    Newcombe's interval, for rows that are passed or not; for grades it is the paired bootstrap
    (Koehn, "Statistical significance tests for machine translation evaluation", EMNLP 2004).

    Each comparison stands for itself: of many, one in twenty that are found sure is a mistake.
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
