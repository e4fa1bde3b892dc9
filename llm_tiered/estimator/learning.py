"""Examples → learned coefficients, compared with the shipped ones on prompts that are held out."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal, NamedTuple

from .conversation import THIN
from .measures import Scored, auc, log_loss
from .refit import Example, refit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .model import Coefficients

ENOUGH = 30
"""Number of groups from which a better fit is accepted. With fewer groups it must be better with
95% confidence."""

FEWEST = 5
"""Number of good and of bad answers that are needed to learn anything."""

FOLDS = 10

SAMPLES = 400
"""Bootstrap samples behind each interval."""

Verdict = Literal["better", "no better", "too few", "one kind"]


class Improvement(NamedTuple):
    """One measure for both sets of coefficients, the improvement, and its 95% interval."""

    shipped: float
    learned: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningResult:
    """What was learned from examples.

    `groups` is the number of groups they are in; `thin` of them were left out for having too little
    text. `log_loss` should be low and `auc` high; both are measured on prompts that
    were held out of the fit, and None if nothing was fitted. `coefficients` are fitted to all
    examples.
    """

    verdict: Verdict
    groups: int
    thin: int
    log_loss: Improvement | None = None
    auc: Improvement | None = None
    coefficients: Coefficients | None = None


class _Prediction(NamedTuple):
    """The scores and losses of a held-out example: with shipped, then with learned coefficients.

    Learned log-odds differ from fold to fold: the more of the held-out examples failed, the
    lower they are. So the mean over all examples is subtracted from the score.
    """

    scores: tuple[float, float]
    losses: tuple[float, float]
    failed: float
    weight: float


def learn(examples: Sequence[Example], shipped: Coefficients) -> LearningResult:
    """Fit the coefficients to examples, and measure whether that helps on held-out prompts.

    Examples with too little text to judge by are left out.
    """
    telling = [example for example in examples if example.measures.evidence >= THIN]
    thin = len(examples) - len(telling)
    groups = len({example.group for example in telling})
    bad = sum(example.failed >= 0.5 for example in telling)
    if min(bad, len(telling) - bad) < FEWEST or groups < 2:
        verdict: Verdict = "one kind" if len(telling) >= 2 * FEWEST else "too few"
        return LearningResult(verdict, groups, thin)
    predictions = _cross_validated(telling, shipped)
    by_loss, by_auc = _improvements(list(predictions.values()))
    verdict = "better" if by_loss.gain > 0 else "no better"
    if groups < ENOUGH and by_loss.low <= 0:
        verdict = "too few"
    return LearningResult(verdict, groups, thin, by_loss, by_auc, refit(telling, shipped))


def _cross_validated(
    examples: Sequence[Example], shipped: Coefficients
) -> dict[str, list[_Prediction]]:
    """Return predictions for each example, by group, from fits without its group."""
    # In an order that is unrelated to the prompts, and the same each time.
    groups = sorted({example.group for example in examples}, key=_digest)
    fold = {group: number % FOLDS for number, group in enumerate(groups)}
    predictions: dict[str, list[_Prediction]] = {group: [] for group in groups}
    for number in range(min(FOLDS, len(groups))):
        fitted = [example for example in examples if fold[example.group] != number]
        learned = refit(fitted, shipped)
        log_odds = [example.log_odds(learned) for example in examples]
        level = fmean(log_odds)
        for example, new in zip(examples, log_odds, strict=True):
            if fold[example.group] == number:
                old, failed = example.log_odds(shipped), example.failed
                losses = log_loss(old, failed), log_loss(new, failed)
                predictions[example.group].append(
                    _Prediction((old, new - level), losses, failed, example.weight)
                )
    return predictions


def _digest(group: str) -> bytes:
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()


def _improvements(groups: Sequence[list[_Prediction]]) -> tuple[Improvement, Improvement]:
    """Return the improvements of log-loss and AUC, with intervals from resampled groups."""
    source = random.Random(0)  # noqa: S311 - no secret, and the same each time
    losses, areas = [], []
    for _ in range(SAMPLES):
        sample = _joined(source.choices(groups, k=len(groups)))
        losses.append(_gain(_log_losses(sample), lower=True))
        areas.append(_gain(_aucs(sample)))
    every = _joined(groups)
    return (
        _improvement(_log_losses(every), losses, lower=True),
        _improvement(_aucs(every), areas),
    )


def _joined(groups: Iterable[list[_Prediction]]) -> list[_Prediction]:
    return [prediction for group in groups for prediction in group]


def _improvement(
    both: tuple[float, float], samples: list[float], *, lower: bool = False
) -> Improvement:
    samples = sorted(samples)
    tail = round(0.025 * len(samples))
    return Improvement(*both, _gain(both, lower=lower), samples[tail], samples[-1 - tail])


def _gain(both: tuple[float, float], *, lower: bool = False) -> float:
    shipped, learned = both
    return shipped - learned if lower else learned - shipped


def _log_losses(predictions: Sequence[_Prediction]) -> tuple[float, float]:
    total = sum(each.weight for each in predictions)
    shipped = sum(each.weight * each.losses[0] for each in predictions)
    learned = sum(each.weight * each.losses[1] for each in predictions)
    return shipped / total, learned / total


def _aucs(predictions: Sequence[_Prediction]) -> tuple[float, float]:
    shipped, learned = (
        auc(Scored(each.scores[which], each.failed, each.weight) for each in predictions)
        for which in (0, 1)
    )
    return shipped, learned
