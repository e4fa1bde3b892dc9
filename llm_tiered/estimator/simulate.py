"""What learning gives users whose prompts are of kinds that the coefficients have not seen."""

from __future__ import annotations

import random
from math import log
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from .evaluate import auc
from .refit import Example, logistic, refit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .data import Question
    from .evaluate import Fit
    from .model import Coefficients

USERS = 20
GROUPS = 5
"""Groups of questions that a user asks from."""

ANSWERS = (10, 20, 40, 80, 160, 320)
OTHERS = 1_000
"""Questions of the same groups, at the most, that the user then asks."""


class Gain(NamedTuple):
    """What so many answers are worth, on average over the users, on what they ask then.

    `users` is the share of them for whom the learned coefficients are better by log-loss.
    """

    answers: int
    users: float
    log_loss: float
    learned_log_loss: float
    auc: float
    learned_auc: float


def gains(questions: Sequence[Question], fit: Fit) -> Iterator[Gain]:
    """Learn from answers of a small model to questions of groups that the fit has not seen."""
    source = random.Random(0)  # noqa: S311 - no secret, and the same each time
    names = sorted({question.group for question in questions})
    users = []
    for _ in range(USERS):
        groups = set(source.sample(names, min(GROUPS, len(names) - 1)))
        asked = [question for question in questions if question.group in groups]
        source.shuffle(asked)
        users.append(
            (fit([question for question in questions if question.group not in groups]), asked)
        )
    for answers in ANSWERS:
        results = [
            _measures(coefficients, asked, answers, source)
            for coefficients, asked in users
            if len(asked) > 2 * answers
        ]
        if results:
            better = fmean(after < before for before, after, *_ in results)
            yield Gain(answers, better, *map(fmean, zip(*results, strict=True)))


def _measures(
    coefficients: Coefficients, asked: Sequence[Question], answers: int, source: random.Random
) -> tuple[float, float, float, float]:
    """Log-loss and AUC, each before and after."""
    import numpy as np

    examples = [
        Example(question.measured, question.prompt, float(source.random() >= question.small))
        for question in asked[:answers]
    ]
    learned = refit(examples, coefficients)
    others = asked[answers : answers + OTHERS]
    wrong = np.array([1 - question.small for question in others])
    losses, areas = [], []
    for each in (coefficients, learned):
        odds = [each.log_odds(question.measured) for question in others]
        losses.append(fmean(map(_log_loss, odds, wrong)))
        areas.append(auc(np.array(odds), wrong))
    return losses[0], losses[1], areas[0], areas[1]


def _log_loss(log_odds: float, wrong: float) -> float:
    chance = logistic(log_odds)
    return -wrong * log(chance) - (1 - wrong) * log(1 - chance)
