"""What other coefficients change: the weights in words, and how many prompts move."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from .features import FEATURES
from .model import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .features import Measured
    from .model import Coefficients

TELLING = 0.3
"""Steps of complexity from which a changed weight is told."""


class Prompt(NamedTuple):
    """A prompt, and the steps of complexity of what came with it."""

    measured: Measured
    burden: float


class Weight(NamedTuple):
    """How many steps of complexity a feature counts for in a text that has much of it."""

    name: str
    before: float
    after: float


class Changes(NamedTuple):
    """`level` is the steps by which prompts get harder on average; the rest are numbers of them."""

    weights: list[Weight]
    level: float
    prompts: int
    up: int
    down: int


def changes(
    prompts: Sequence[Prompt],
    before: Coefficients,
    after: Coefficients,
    tier: Callable[[int], int],
) -> Changes:
    """Compare coefficients on these prompts. `tier` gives the place of a complexity's tier."""
    places = [(_place(each, before, tier), _place(each, after, tier)) for each in prompts]
    return Changes(
        weights=_weights(before, after),
        level=fmean(_distance(each, after) - _distance(each, before) for each in prompts),
        prompts=len(prompts),
        up=sum(old < new for old, new in places),
        down=sum(old > new for old, new in places),
    )


def _place(prompt: Prompt, coefficients: Coefficients, tier: Callable[[int], int]) -> int:
    log_odds = coefficients.log_odds(prompt.measured) + coefficients.step * prompt.burden
    return tier(coefficients.complexity(log_odds))


def _distance(prompt: Prompt, coefficients: Coefficients) -> float:
    return (coefficients.log_odds(prompt.measured) - coefficients.medium) / coefficients.step


def _weights(before: Coefficients, after: Coefficients) -> list[Weight]:
    found = []
    for name, old, new in zip(FEATURES, before.features, after.features, strict=True):
        # Two spreads from the mean are much.
        steps = 2 * old.weight / before.step, 2 * new.weight / after.step
        if abs(steps[1] - steps[0]) >= TELLING:
            words = "length" if name == "length" else REASONS[name].split(" (")[0]
            found.append(Weight(words, *steps))
    return sorted(found, key=lambda weight: -abs(weight.after - weight.before))
