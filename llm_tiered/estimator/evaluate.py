"""How good the estimates are: APGR with whole groups left out, shares, and times."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy import float64
    from numpy.typing import NDArray

    from .data import Question
    from .model import Coefficients

SAMPLES = 200
"""Bootstrap samples behind an interval of 95 %."""


def left_out(
    questions: Sequence[Question],
    fit: Callable[[Sequence[Question]], Coefficients],
    *,
    kind: Callable[[Question], str],
) -> list[float]:
    """The log-odds of each question from a fit without any question of its kind."""
    kinds = sorted({kind(question) for question in questions})
    models = {
        left: fit([question for question in questions if kind(question) != left])
        for left in kinds
    }
    return [models[kind(question)].log_odds(question.measured) for question in questions]


def apgr(score: NDArray[float64], small: NDArray[float64], large: NDArray[float64]) -> float:
    """Average performance gap recovered, when the highest scores go to the large models.

    The share of them is raised from 0 to 100 % in steps of 10, and the accuracy gained over
    the small models is averaged and divided by all there is to gain. Equal scores count as in
    any order: random scores give 0.5.
    """
    import numpy as np

    _, tie = np.unique(-score, return_inverse=True)
    gain = (np.bincount(tie, large - small) / np.bincount(tie))[tie][np.argsort(tie, kind="stable")]
    gained = np.concatenate([[0.0], np.cumsum(gain)])
    at = np.interp(np.linspace(0, len(score), 11), np.arange(len(gained)), gained)
    return float(np.trapezoid(at, dx=0.1) / gained[-1])
