"""Which requests can be priced together, whatever model's prices they are compared with.

The price of a request grows in proportion to the units that it used, unless the service treats it
in another way than most, or its prompt is longer than a limit. Requests that agree in this have one
shape: the sums of their units are enough to price them all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .prices import Context, Tokens, context_of, provider_of
from .usage import INPUT, OUTPUT, count_units, parse_details

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .prices import PriceList

# The day whose prices are those of all days before the first change.
_BEFORE = date(1, 1, 1).isoformat()


class Shape(NamedTuple):
    """What decides how the sums of `units` are priced.

    `length` is that of a prompt on the same side of every limit. The price of requests that are not
    `priceable` is unknown everywhere: they used something of unknown meaning, or their counts
    contradict each other. Requests whose units depend on whose prices are asked for are all equal:
    each used the tokens `alone`.
    """

    length: int = 0
    context: Context = ()
    units: tuple[str, ...] = ()
    priceable: bool = True
    alone: Tokens | None = None

    def cost(self, prices: PriceList, amounts: Sequence[int], requests: int) -> Decimal | None:
        """Return the dollars for the units of this many requests, or None if unknown."""
        if self.alone:
            one = prices.cost(self.alone)
            return None if one is None else one * requests
        if not self.priceable:
            return None
        if self.context:
            prices = prices.in_context(self.context) or prices
        rates = prices.step(self.length)
        dollars = rates.request * requests
        for unit, amount in zip(self.units, amounts, strict=True):
            rate = rates.of(unit) if amount else Decimal(0)
            if rate is None:
                return None
            dollars += rate * amount
        return dollars


# The shape of requests that need no units: the sums of their tokens are enough.
PLAIN = Shape()


def shape_of(tokens: Tokens, length: Callable[[int], int]) -> tuple[Shape, tuple[int, ...]]:
    """Return the shape of a request that must be priced on its own, and its units.

    `length` makes lengths equal that may be: it is `price_length`, or returns its argument.
    """
    if tokens.details is None:
        return _shape({INPUT: tokens.input, OUTPUT: tokens.output}, (), length)
    if tokens.model is None:
        return Shape(alone=tokens), ()
    details = parse_details(tokens.details)
    try:
        units = count_units(tokens.input, tokens.output, details, provider_of(tokens.model))
    except ValueError:
        return Shape(priceable=False), ()
    if units.unknown:
        return Shape(priceable=False), ()
    return _shape(units.counts, context_of(details), length)


@lru_cache(maxsize=10_000)
def price_day(day: str) -> str:
    """Return the earliest day since when no price of any model has changed; both in ISO format."""
    days, _ = _changes()
    place = bisect_right(days, day)
    return days[place - 1] if place else _BEFORE


def price_length(tokens: int) -> int:
    """Return the shortest prompt that has the same prices as one of this length."""
    _, limits = _changes()
    place = bisect_left(limits, tokens)
    return limits[place - 1] + 1 if place else 0


def _shape(
    counts: dict[str, int], context: Context, length: Callable[[int], int]
) -> tuple[Shape, tuple[int, ...]]:
    used = {unit: count for unit, count in sorted(counts.items()) if count}
    shape = Shape(length(counts[INPUT]), context, tuple(used))
    return shape, tuple(used.values())


@cache
def _changes() -> tuple[list[str], list[int]]:
    """Return all days on which a price changes, and all limits of long prompts, in order."""
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import StartDateConstraint, TieredPrices

    days, limits = set(), set()
    for entry in _entries(get_snapshot()):
        constraint = getattr(entry, "constraint", None)
        if isinstance(constraint, StartDateConstraint):
            days.add(constraint.start_date.isoformat())
        for price in vars(getattr(entry, "prices", entry)).values():
            if isinstance(price, TieredPrices):
                limits |= {tier.start for tier in price.tiers}
    return sorted(days), sorted(limits)


def _entries(snapshot: object) -> Iterator[object]:
    """Yield all prices of all models, conditional ones and variants with their conditions."""
    for provider in snapshot.providers:  # type: ignore[attr-defined]  # imported in functions only
        for model in provider.models:
            yield from model.prices if isinstance(model.prices, list) else [model.prices]
            yield from model.price_variants or ()
