"""Sums over requests → what they cost, what the cloud would have cost, and what was saved."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .prices import Tokens, price_list, same_model, with_version
from .shapes import PLAIN

if TYPE_CHECKING:
    from .prices import Energy
    from .requests import Route
    from .sums import Cell, Sum
    from .tally import Tally


class Comparison(NamedTuple):
    """The id of the cloud model that costs are compared with, and what local power costs.

    Without a model, what the cloud would have cost is unknown; without `energy`, local answers
    cost nothing.
    """

    cloud_model: str | None = None
    energy: Energy | None = None


def add_money(tally: Tally, cell: Cell, total: Sum, comparison: Comparison) -> None:
    """Add what the requests cost, and what their tokens would have cost in the cloud.

    For requests that the cloud model itself answered, the two are equal.
    """
    route, requests = cell.route, total.requests
    model, compared_with = _models(route, comparison.cloud_model)
    day = date.fromisoformat(cell.priced_on)
    in_cloud = _cost(compared_with, day, cell, total)
    spent: Decimal | None = Decimal(0)
    if not route.cached and not route.local:
        spent = in_cloud if model == compared_with else _cost(model, day, cell, total)
    elif not route.cached and comparison.energy:
        spent = comparison.energy.cost(total.milliseconds) if cell.timed else None
    saved = None if spent is None or in_cloud is None else in_cloud - spent
    tally.spent.add(spent, requests)
    tally.in_cloud.add(in_cloud, requests)
    tally.saved.add(saved, requests)


@lru_cache(maxsize=1000)
def _models(route: Route, cloud_model: str | None) -> tuple[str | None, str | None]:
    """Return the models whose prices were paid, and are compared with."""
    model = with_version(route.model, route.version) if route.model else None
    is_cloud_model = route.model and cloud_model and same_model(route.model, cloud_model)
    return model, model if is_cloud_model else cloud_model


def _cost(model: str | None, day: date, cell: Cell, total: Sum) -> Decimal | None:
    """Return the dollars at a model's prices, or None if they or the tokens are unknown."""
    prices = price_list(model, day) if model and cell.counted else None
    if prices is None:
        return None
    if cell.shape == PLAIN:
        tokens = Tokens(total.input_tokens, total.output_tokens)
        return prices.steps[0].cost(tokens, total.requests)
    return cell.shape.cost(prices, total.amounts, total.requests)
