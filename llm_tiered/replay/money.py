"""What requests cost, and what the same tokens would cost with another model. Dollars."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from ..costs.charges import LoggedUsage, cost_of_usage
from ..costs.prices import same_model, version_of
from ..log.record import inner_response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config.tiers import Tier
    from .again import Replayed

# The fewest requests with known costs from which those of others are inferred: with fewer, the mean
# of such skewed amounts is not yet nearly normal.
FEWEST = 30

_Z = NormalDist().inv_cdf(0.975)


@dataclass
class Costs:
    """A sum of dollars over requests, and over how many of them.

    `uncounted` is the number of requests whose tokens are unknown, `unpriced` of those without a
    known price; the dollars of neither are in the sum. `squares` is the sum of squared deviations
    from the mean of the known ones.
    """

    dollars: Decimal = Decimal(0)
    known: int = 0
    uncounted: int = 0
    unpriced: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, dollars: Decimal | None, *, counted: bool) -> None:
        """Add a request; `counted` is whether its tokens are known."""
        if dollars is None:
            self.unpriced += counted
            self.uncounted += not counted
            return
        self.dollars += dollars
        self.known += 1
        # Welford, "Note on a method for calculating corrected sums", Technometrics 4, 1962.
        amount = float(dollars)
        deviation = amount - self.mean
        self.mean += deviation / self.known
        self.squares += deviation * (amount - self.mean)

    @property
    def sum(self) -> Decimal | None:
        """The dollars that are known, or None if none are."""
        return self.dollars if self.known or not (self.uncounted or self.unpriced) else None

    def as_dict(self) -> dict[str, Any]:
        """Return what is written as JSON; dollars are text, so that they are not rounded."""
        interval = interval_of([self])
        return {
            "dollars": None if self.sum is None else f"{self.sum.normalize():f}",
            "uncounted_requests": self.uncounted,
            "unpriced_requests": self.unpriced,
            "interval": interval and {"low": interval[0], "high": interval[1]},
        }


def interval_of(groups: Iterable[Costs]) -> tuple[float, float] | None:
    """Return the 95% prediction interval of the sum, if the tokens of some requests are unknown.

    It takes these requests for ones like the others of their group. None if there are none, if
    there are too few others, or if any price is unknown.
    """
    total, variance = 0.0, 0.0
    missing = 0
    known = Decimal(0)
    for group in groups:
        if group.unpriced or (group.uncounted and group.known < FEWEST):
            return None
        known += group.dollars
        missing += group.uncounted
        total += group.uncounted * group.mean
        if group.uncounted:
            spread = group.squares / (group.known - 1)
            # Of the requests themselves, and of the mean.
            variance += spread * (group.uncounted + group.uncounted**2 / group.known)
    if not missing:
        return None
    margin = _Z * sqrt(variance)
    return (
        round(float(known) + max(total - margin, 0.0), 6),
        round(float(known) + total + margin, 6),
    )


def has_tokens(replayed: Replayed) -> bool:
    """Return whether the tokens of a request are known; an answer from the cache has none."""
    turn = replayed.request.turn
    counts = (turn.input_tokens, turn.output_tokens)
    return bool(replayed.record.cached_from) or all(type(count) is int for count in counts)


def cost_before(replayed: Replayed) -> Decimal | None:
    """Return what the answer in the log cost, without electricity; None if unknown."""
    turn = replayed.request.turn
    if replayed.record.cached_from:
        return Decimal(0)
    return cost_of_usage(
        LoggedUsage(
            turn.resolved_model,
            version_of(inner_response(turn.response_json)),
            turn.when,
            turn.input_tokens,
            turn.output_tokens,
            turn.token_details,
            place=replayed.record.place,
            price=replayed.record.price,
            ms=turn.duration_ms,
        )
    )


def cost_with(replayed: Replayed, model: str, tier: Tier | None) -> Decimal | None:
    """Return what the tokens of the answer in the log would cost with the model of another tier.

    Models count and write differently, but by how much is not known, nor is how long they take: a
    tier with a price per hour has no cost. An answer from the cache stays one: the request that it
    repeats goes the same way. The embedded model has no tier.
    """
    turn = replayed.request.turn
    if replayed.record.cached_from:
        return Decimal(0)
    price = tier.answer_price if tier else None
    if not price and turn.resolved_model and same_model(turn.resolved_model, model):
        return cost_before(replayed)
    return cost_of_usage(
        LoggedUsage(
            model,
            None,
            turn.when,
            turn.input_tokens,
            turn.output_tokens,
            turn.token_details,
            counted_by=turn.resolved_model,
            place=tier.place if tier else None,
            price=price,
        )
    )
