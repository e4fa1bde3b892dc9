"""Learned coefficients against those that come with the package, on prompts that are left out."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from itertools import accumulate
from math import log
from statistics import fmean
from typing import TYPE_CHECKING, Literal, NamedTuple

from .conversation import THIN
from .refit import Example, logistic, refit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .model import Coefficients

ENOUGH = 30
"""Groups of examples with which a better fit is believed. With fewer, it has to be better with
95 % confidence."""

FEWEST = 5
"""Answers of either kind, good enough and not, without which nothing can be learned."""

FOLDS = 10
SAMPLES = 400

Verdict = Literal["better", "no better", "too few", "one kind"]


class Figure(NamedTuple):
    """One measure of both, and how much better the learned one is, with an interval of 95 %."""

    shipped: float
    learned: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Learned:
    """What examples gave. `thin` of them had texts with too little to go by.

    `log_loss` is the surprise of an outcome, the lower the better; `auc` how often the harder of
    two prompts has the higher log-odds. Both are of prompts that the fit had not seen, and None
    where that can't be measured. `coefficients` are fitted on all of the examples.
    """

    verdict: Verdict
    groups: int
    thin: int
    log_loss: Figure | None = None
    auc: Figure | None = None
    coefficients: Coefficients | None = None


class _Guess(NamedTuple):
    """An example that was left out: the score that each gives it, how far each was wrong.

    The learned log-odds differ from fold to fold, and are the lower the more of those left out
    failed: the score is without their mean over all examples.
    """

    scores: tuple[float, float]
    losses: tuple[float, float]
    failed: float
    weight: float


def learn(examples: Sequence[Example], shipped: Coefficients) -> Learned:
    """Fit the examples, and find out whether that helps with prompts that are left out.

    Texts with too little to go by teach nothing.
    """
    telling = [example for example in examples if example.measured.evidence >= THIN]
    thin = len(examples) - len(telling)
    groups = len({example.group for example in telling})
    kinds = [example.failed >= 0.5 for example in telling]
    if min(kinds.count(True), kinds.count(False)) < FEWEST or groups < 2:
        return Learned("one kind" if len(kinds) >= 2 * FEWEST else "too few", groups, thin)
    guesses = _left_out(telling, shipped)
    log_loss, auc = _figures(list(guesses.values()))
    verdict: Verdict = "better" if log_loss.gain > 0 else "no better"
    if groups < ENOUGH and log_loss.low <= 0:
        verdict = "too few"
    return Learned(verdict, groups, thin, log_loss, auc, refit(telling, shipped))


def _left_out(examples: Sequence[Example], shipped: Coefficients) -> dict[str, list[_Guess]]:
    """Each example as a fit without its group sees it, by group."""
    # In an order that has nothing to do with the prompts, and is the same each time.
    groups = sorted({example.group for example in examples}, key=_digest)
    fold = {group: number % FOLDS for number, group in enumerate(groups)}
    guesses: dict[str, list[_Guess]] = {group: [] for group in groups}
    for number in range(min(FOLDS, len(groups))):
        seen = [example for example in examples if fold[example.group] != number]
        learned = refit(seen, shipped)
        odds = [example.log_odds(learned) for example in examples]
        level = fmean(odds)
        for example, new in zip(examples, odds, strict=True):
            if fold[example.group] == number:
                old, failed = example.log_odds(shipped), example.failed
                losses = _log_loss(old, failed), _log_loss(new, failed)
                guess = _Guess((old, new - level), losses, failed, example.weight)
                guesses[example.group].append(guess)
    return guesses


def _digest(group: str) -> bytes:
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()


def _figures(groups: Sequence[list[_Guess]]) -> tuple[Figure, Figure]:
    """Log-loss and AUC, with intervals from samples of the groups."""
    source = random.Random(0)  # noqa: S311 - no secret, and the same each time
    losses, areas = [], []
    for _ in range(SAMPLES):
        drawn = _joined(source.choices(groups, k=len(groups)))
        losses.append(_gain(_log_losses(drawn), lower=True))
        areas.append(_gain(_aucs(drawn)))
    every = _joined(groups)
    return (
        _figure(_log_losses(every), losses, lower=True),
        _figure(_aucs(every), areas),
    )


def _joined(groups: Iterable[list[_Guess]]) -> list[_Guess]:
    return [guess for group in groups for guess in group]


def _figure(both: tuple[float, float], samples: list[float], *, lower: bool = False) -> Figure:
    samples = sorted(samples)
    tail = round(0.025 * len(samples))
    return Figure(*both, _gain(both, lower=lower), samples[tail], samples[-1 - tail])


def _gain(both: tuple[float, float], *, lower: bool = False) -> float:
    shipped, learned = both
    return shipped - learned if lower else learned - shipped


def _log_losses(guesses: Sequence[_Guess]) -> tuple[float, float]:
    total = sum(guess.weight for guess in guesses)
    shipped = sum(guess.weight * guess.losses[0] for guess in guesses)
    learned = sum(guess.weight * guess.losses[1] for guess in guesses)
    return shipped / total, learned / total


def _log_loss(log_odds: float, failed: float) -> float:
    # No chance is taken to be nothing: a single answer would decide it all.
    chance = min(1 - 1e-6, max(1e-6, logistic(log_odds)))
    return -failed * log(chance) - (1 - failed) * log(1 - chance)


def _aucs(guesses: Sequence[_Guess]) -> tuple[float, float]:
    shipped, learned = (
        _auc([(guess.scores[which], guess.failed, guess.weight) for guess in guesses])
        for which in (0, 1)
    )
    return shipped, learned


def _auc(scored: list[tuple[float, float, float]]) -> float:
    """How often what failed has the higher score. Equal scores count half; 0.5 for one kind."""
    failed: dict[float, float] = {}
    worked: dict[float, float] = {}
    for score, share, weight in scored:
        failed[score] = failed.get(score, 0.0) + share * weight
        worked[score] = worked.get(score, 0.0) + (1 - share) * weight
    scores = sorted(failed)
    up_to = accumulate(worked[score] for score in scores)
    above = sum(
        failed[score] * (below - worked[score] / 2)
        for score, below in zip(scores, up_to, strict=True)
    )
    pairs = sum(failed.values()) * sum(worked.values())
    return above / pairs if pairs else 0.5
