"""Examples → coefficients close to those that ship with the package.

In plain Python: numpy is installed only where MLX is, and there are few numbers to compute with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .features import FEATURES, measure
from .measures import logistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .features import TextMeasures
    from .model import Coefficients

SMALL = 4
"""The highest complexity of the small tier, whose failures the shipped coefficients predict."""

LEVEL_PENALTY, WEIGHT_PENALTY = 8.0, 32.0
"""How strongly the level of the prompts and the weights are pulled to the shipped values.

Chosen with fits that left out five groups of the training data, followed by learning from 10 to 320
answers to prompts of those groups. The best penalty on the level was 4; it is higher here because
people mark bad answers more readily than good ones."""

ROUNDS = 200


@dataclass(frozen=True)
class Example:
    """How a tier did on a prompt.

    `failed` is 0 if its answer was good enough, 1 if not, or between. `weight` is how much the
    example counts. `highest` is the highest complexity of the tier, `extra_steps` the steps of
    complexity for what came with the prompt. Examples of one `group` are alike, and are held out
    together.
    """

    measures: TextMeasures
    group: str
    failed: float
    weight: float = 1.0
    highest: int = SMALL
    extra_steps: float = 0.0

    @classmethod
    def of(cls, prompt: str, *, too_hard: bool, weight: float = 1.0) -> Example:
        """Return the example of a prompt that was, or was not, too hard for the small tier."""
        return cls(measure(prompt), prompt, float(too_hard), weight)

    def log_odds(self, coefficients: Coefficients) -> float:
        """Return the log-odds that the tier fails.

        A larger tier is assumed to fail at the end of its range as often as the small tier does
        at the end of its own.
        """
        return coefficients.log_odds(self.measures) + self.offset(coefficients)

    def offset(self, coefficients: Coefficients) -> float:
        """Return the part of the log-odds that does not come from the text."""
        return coefficients.step * (self.extra_steps - (self.highest - SMALL))


def refit(examples: Sequence[Example], shipped: Coefficients) -> Coefficients:
    """Return the most likely coefficients for the examples, given the shipped ones as a prior.

    This is a logistic model with Gaussian priors around the shipped values. One of them is on the
    mean level of these prompts, so that the weights only express differences between them. No
    weight is negative, since every feature is one that makes prompts harder. The scale stays
    the same.
    """
    evidence = sum(example.weight * example.measures.evidence for example in examples)
    if not evidence:
        return shipped
    standardised = [shipped.standardised(example.measures.values) for example in examples]
    centre = [
        sum(
            example.weight * example.measures.evidence * values[feature]
            for values, example in zip(standardised, examples, strict=True)
        )
        / evidence
        for feature in range(len(FEATURES))
    ]
    rows = [
        _row(example, values, centre, shipped)
        for example, values in zip(examples, standardised, strict=True)
    ]
    weights = [feature.weight for feature in shipped.features]
    level, *weights = _fitted(rows, [shipped.intercept + _dot(weights, centre), *weights])
    features = zip(shipped.features, weights, strict=True)
    return shipped._replace(
        intercept=round(level - _dot(weights, centre), 4),
        features=tuple(feature._replace(weight=round(weight, 4)) for feature, weight in features),
    )


class _DesignRow(NamedTuple):
    """One example as a row of the design matrix.

    `values` are multiplied by the level and the weights, `offset` is the rest of the log-odds.
    """

    values: list[float]
    offset: float
    failed: float
    weight: float


def _row(
    example: Example, standardised: Sequence[float], centre: Sequence[float], shipped: Coefficients
) -> _DesignRow:
    evidence = example.measures.evidence
    asks = shipped.step * example.measures.steps
    offset = example.offset(shipped) + shipped.medium * (1 - evidence) + evidence * asks
    values = [evidence * (value - mean) for value, mean in zip(standardised, centre, strict=True)]
    return _DesignRow([evidence, *values], offset, example.failed, example.weight)


def _fitted(rows: Sequence[_DesignRow], prior: Sequence[float]) -> list[float]:
    """Return the level and the weights, one after the other by Newton's method until none moves."""
    solution = list(prior)
    log_odds = [row.offset + _dot(row.values, solution) for row in rows]
    for _ in range(ROUNDS):
        furthest = 0.0
        for place, start in enumerate(prior):
            curvature = WEIGHT_PENALTY if place else LEVEL_PENALTY
            slope = curvature * (start - solution[place])
            for row, each in zip(rows, log_odds, strict=True):
                probability, value = logistic(each), row.values[place]
                slope += row.weight * (row.failed - probability) * value
                curvature += row.weight * probability * (1 - probability) * value * value
            move = slope / curvature
            if place:
                # Only the level, which comes first, may be negative.
                move = max(move, -solution[place])
            solution[place] += move
            log_odds = [
                each + move * row.values[place] for row, each in zip(rows, log_odds, strict=True)
            ]
            furthest = max(furthest, abs(move))
        if furthest < 1e-7:
            break
    return solution


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
