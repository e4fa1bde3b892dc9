"""Examples → coefficients that are near those that come with the package.

In plain Python: numpy is there only where MLX is, and the numbers are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, NamedTuple

from .features import FEATURES, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .features import Measured
    from .model import Coefficients

SMALL = 4
"""The highest complexity of the tier that the coefficients speak of: it answers up to here."""

LEVEL_PENALTY, WEIGHT_PENALTY = 8.0, 32.0
"""How strongly the level of the prompts and the weights are held where the package has them.

Chosen by fits without five groups of the shared data, of which 10 to 320 answers were then learned
from. The best for the level was 4: it is held more, because people mark bad answers sooner than
good ones."""

ROUNDS = 30


@dataclass(frozen=True)
class Example:
    """How a tier did on a prompt.

    `failed` is 0 where its answer was good enough, 1 where it was not, or between. `weight` is how
    much that counts. `highest` is the highest complexity of the tier, `burden` the steps of
    complexity of what came with the prompt. Examples of one `group` are much alike: they are left
    out together.
    """

    measured: Measured
    group: str
    failed: float
    weight: float = 1.0
    highest: int = SMALL
    burden: float = 0.0

    @classmethod
    def of(cls, prompt: str, *, too_hard: bool, weight: float = 1.0) -> Example:
        """A prompt that was or was not too hard for the small tier."""
        return cls(measure(prompt), prompt, float(too_hard), weight)

    def log_odds(self, coefficients: Coefficients) -> float:
        """The log-odds that the tier fails.

        A larger tier is taken to fail at the end of its range as often as the small one does at
        the end of its own.
        """
        return coefficients.log_odds(self.measured) + self.offset(coefficients)

    def offset(self, coefficients: Coefficients) -> float:
        """The part of the log-odds that is not the prompt's."""
        return coefficients.step * (self.burden - (self.highest - SMALL))


def refit(examples: Sequence[Example], shipped: Coefficients) -> Coefficients:
    """The likeliest coefficients for the examples, if those that are shipped are likely too.

    A logistic model with Gaussian priors around what is shipped. One is on the level of these
    prompts as a whole, so that the weights say only what sets them apart. No weight gets below
    zero: every feature is one that makes a prompt harder. The scale stays.
    """
    evidence = sum(example.weight * example.measured.evidence for example in examples)
    if not evidence:
        return shipped
    standard = [shipped.standard(example.measured.values) for example in examples]
    centre = [
        sum(
            example.weight * example.measured.evidence * values[place]
            for values, example in zip(standard, examples, strict=True)
        )
        / evidence
        for place in range(len(FEATURES))
    ]
    rows = [
        _row(example, values, centre, shipped)
        for example, values in zip(examples, standard, strict=True)
    ]
    weights = [feature.weight for feature in shipped.features]
    level, *weights = _newton(rows, [shipped.intercept + _dot(weights, centre), *weights])
    features = zip(shipped.features, weights, strict=True)
    return shipped._replace(
        intercept=round(level - _dot(weights, centre), 4),
        features=tuple(feature._replace(weight=round(weight, 4)) for feature, weight in features),
    )


def logistic(log_odds: float) -> float:
    """The chance for log-odds."""
    return 1 / (1 + exp(-log_odds)) if log_odds > -700 else 0.0


class _Row(NamedTuple):
    """What the level and each weight count for in an example, and the rest of its log-odds."""

    values: list[float]
    offset: float
    failed: float
    weight: float


def _row(
    example: Example, standard: Sequence[float], centre: Sequence[float], shipped: Coefficients
) -> _Row:
    evidence = example.measured.evidence
    asked = shipped.step * sum(steps for steps, _ in example.measured.intents)
    offset = example.offset(shipped) + shipped.medium * (1 - evidence) + evidence * asked
    apart = [evidence * (value - mean) for value, mean in zip(standard, centre, strict=True)]
    return _Row([evidence, *apart], offset, example.failed, example.weight)


def _newton(rows: Sequence[_Row], prior: list[float]) -> list[float]:
    """The level and the weights, by Newton's method."""
    penalties = [LEVEL_PENALTY] + [WEIGHT_PENALTY] * len(FEATURES)
    solution = prior
    for _ in range(ROUNDS):
        curvature = [[0.0] * len(prior) for _ in prior]
        for place, penalty in enumerate(penalties):
            curvature[place][place] = penalty
        gradient = [
            penalty * (start - now)
            for penalty, start, now in zip(penalties, prior, solution, strict=True)
        ]
        for row in rows:
            chance = logistic(row.offset + _dot(row.values, solution))
            slope = row.weight * (row.failed - chance)
            bend = row.weight * chance * (1 - chance)
            for place, value in enumerate(row.values):
                gradient[place] += slope * value
                line, part = curvature[place], bend * value
                for other in range(place + 1):
                    line[other] += part * row.values[other]
        following = _step(curvature, gradient, solution)
        moved = max(abs(one - other) for one, other in zip(following, solution, strict=True))
        solution = following
        if moved < 1e-6:
            break
    return solution


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _step(
    curvature: list[list[float]], gradient: list[float], solution: list[float]
) -> list[float]:
    """Newton's step from the solution, with no weight below zero.

    The weight that falls lowest is held at zero, one after another.
    """
    for place, line in enumerate(curvature):
        for other in range(place):
            curvature[other][place] = line[other]
    free = list(range(len(solution)))
    held: dict[int, float] = {}
    while True:
        lines = [[curvature[one][other] for other in free] for one in free]
        rest = [
            gradient[one] - sum(curvature[one][other] * move for other, move in held.items())
            for one in free
        ]
        moves = held | dict(zip(free, _solve(lines, rest), strict=True))
        following = [now + moves[place] for place, now in enumerate(solution)]
        low = min(free, key=lambda place: following[place] if place else 0.0)
        if low == 0 or following[low] >= 0:
            return [0.0 if place in held else value for place, value in enumerate(following)]
        held[low] = -solution[low]
        free.remove(low)


def _solve(lines: list[list[float]], rest: list[float]) -> list[float]:
    """Solve a positive definite system by Cholesky's method."""
    size = len(rest)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            left = lines[i][j] - _dot(lower[i][:j], lower[j][:j])
            lower[i][j] = left**0.5 if i == j else left / lower[j][j]
    forward: list[float] = []
    for i in range(size):
        forward.append((rest[i] - _dot(lower[i][:i], forward)) / lower[i][i])
    found = [0.0] * size
    for i in reversed(range(size)):
        known = sum(lower[k][i] * found[k] for k in range(i + 1, size))
        found[i] = (forward[i] - known) / lower[i][i]
    return found
