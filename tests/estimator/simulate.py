"""How much users gain by learning, if their prompts are unlike those that were fitted."""

from __future__ import annotations

import random
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from llm_tiered.estimator.measures import Scored, auc, log_loss
from llm_tiered.estimator.refit import Example, refit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llm_tiered.estimator.model import Coefficients
    from tests.estimator.evaluate import Fit
    from tests.estimator.questions import Question

USERS = 20

GROUPS = 5
"""Number of groups that the questions of a user come from."""

ANSWERS = (10, 20, 40, 80, 160, 320)
"""Numbers of answers to learn from."""

OTHERS = 1_000
"""The most questions of the same groups that the user asks afterwards."""


class Gain(NamedTuple):
    """What a number of answers gains on later questions, on average over the users.

    `users` is the share of users for whom the learned coefficients have the better log-loss.
    """

    answers: int
    users: float
    log_loss: float
    learned_log_loss: float
    auc: float
    learned_auc: float


def gains(questions: Sequence[Question], fit: Fit) -> Iterator[Gain]:
    """Learn from a small model's answers to questions of groups that the fit has not seen."""
    source = random.Random(0)
    names = sorted({question.group for question in questions})
    users = []
    for _ in range(USERS):
        groups = set(source.sample(names, min(GROUPS, len(names) - 1)))
        own = [question for question in questions if question.group in groups]
        source.shuffle(own)
        users.append(
            (fit([question for question in questions if question.group not in groups]), own)
        )
    for answers in ANSWERS:
        results = [
            _results(coefficients, own, answers, source)
            for coefficients, own in users
            if len(own) > 2 * answers
        ]
        if results:
            better = fmean(after < before for before, after, *_ in results)
            yield Gain(answers, better, *map(fmean, zip(*results, strict=True)))


def _results(
    coefficients: Coefficients, questions: Sequence[Question], answers: int, source: random.Random
) -> tuple[float, float, float, float]:
    """Return log-loss and AUC, each before and after learning."""
    examples = [
        Example(question.measures, question.prompt, float(source.random() >= question.small))
        for question in questions[:answers]
    ]
    later = questions[answers : answers + OTHERS]
    losses, areas = [], []
    for each in (coefficients, refit(examples, coefficients)):
        scored = [
            Scored(each.log_odds(question.measures), 1 - question.small) for question in later
        ]
        losses.append(fmean(log_loss(score, failed) for score, failed, _ in scored))
        areas.append(auc(scored))
    return losses[0], losses[1], areas[0], areas[1]
