"""How new coefficients differ: the weights that change, and how many prompts change tier."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from .features import FEATURES
from .model import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .features import TextMeasures
    from .model import Coefficients

NOTABLE_STEPS = 0.3
"""The smallest change of a weight that is reported, in steps of complexity."""


class MeasuredPrompt(NamedTuple):
    """The measures of a prompt's text, and the steps of complexity for what came with it."""

    measures: TextMeasures
    extra_steps: float


class WeightChange(NamedTuple):
    """The steps of complexity that a feature adds where a text has a lot of it."""

    name: str
    before: float
    after: float


class Changes(NamedTuple):
    """What new coefficients change.

    `level` is how many steps harder prompts are rated on average. Of `prompts` in all, `up` go to
    a higher tier and `down` to a lower one.
    """

    weights: list[WeightChange]
    level: float
    prompts: int
    up: int
    down: int


def changes(
    prompts: Sequence[MeasuredPrompt],
    before: Coefficients,
    after: Coefficients,
    tier: Callable[[int], int],
) -> Changes:
    """Compare two sets of coefficients on the prompts; there must be at least one.

    `tier` returns the position of the tier that covers a complexity, 0 for the lowest.
    """
    tiers = [(_tier_of(prompt, before, tier), _tier_of(prompt, after, tier)) for prompt in prompts]
    return Changes(
        weights=_weight_changes(before, after),
        level=fmean(_steps(prompt, after) - _steps(prompt, before) for prompt in prompts),
        prompts=len(prompts),
        up=sum(old < new for old, new in tiers),
        down=sum(old > new for old, new in tiers),
    )


def _tier_of(prompt: MeasuredPrompt, coefficients: Coefficients, tier: Callable[[int], int]) -> int:
    log_odds = coefficients.log_odds(prompt.measures) + coefficients.step * prompt.extra_steps
    return tier(coefficients.complexity(log_odds))


def _steps(prompt: MeasuredPrompt, coefficients: Coefficients) -> float:
    """The steps of complexity by which the text is above medium."""
    return (coefficients.log_odds(prompt.measures) - coefficients.medium) / coefficients.step


def _weight_changes(before: Coefficients, after: Coefficients) -> list[WeightChange]:
    """The notable changes, largest first."""
    notable = []
    for name, old, new in zip(FEATURES, before.features, after.features, strict=True):
        # Two standard deviations above the mean is a lot of a feature.
        steps = 2 * old.weight / before.step, 2 * new.weight / after.step
        if abs(steps[1] - steps[0]) >= NOTABLE_STEPS:
            label = "length" if name == "length" else REASONS[name].split(" (")[0]
            notable.append(WeightChange(label, *steps))
    return sorted(notable, key=lambda change: -abs(change.after - change.before))
