"""How well scores predict outcomes: log-loss and AUC, in plain Python."""

from __future__ import annotations

from itertools import accumulate
from math import exp, log
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Scored(NamedTuple):
    """The score of a prompt, the degree to which its answer failed (0 to 1), and its weight."""

    score: float
    failed: float
    weight: float = 1.0


def logistic(log_odds: float) -> float:
    """Return the probability for log-odds."""
    return 1 / (1 + exp(-log_odds)) if log_odds > -700 else 0.0


def log_loss(log_odds: float, failed: float) -> float:
    """Return the surprise, in nats, at an answer that failed to this degree (0 to 1)."""
    # Clipped: otherwise a single answer could outweigh all others.
    probability = min(1 - 1e-6, max(1e-6, logistic(log_odds)))
    return -failed * log(probability) - (1 - failed) * log(1 - probability)


def auc(scored: Iterable[Scored]) -> float:
    """Return how often a failure has a higher score than a success.

    Equal scores count half. The result is 0.5 if there are only failures, or only successes.
    """
    failures: dict[float, float] = {}
    successes: dict[float, float] = {}
    for score, failed, weight in scored:
        failures[score] = failures.get(score, 0.0) + failed * weight
        successes[score] = successes.get(score, 0.0) + (1 - failed) * weight
    scores = sorted(failures)
    up_to = accumulate(successes[score] for score in scores)
    lower = sum(
        failures[score] * (total - successes[score] / 2)
        for score, total in zip(scores, up_to, strict=True)
    )
    pairs = sum(failures.values()) * sum(successes.values())
    return lower / pairs if pairs else 0.5
