"""Sums over requests → what they cost, what the cloud would have cost, and what was saved."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..config.price import ConfigPrice
from .prices import Tokens, price_list, same_model, with_version
from .shapes import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from .prices import Energy
    from .requests import Route
    from .sums import Cell, Sum
    from .tally import Tally


class Comparison(NamedTuple):
    """The id of the cloud model that costs are compared with, and what local power costs.

    Without a model, what the cloud would have cost is unknown; without `energy`, local answers
    cost nothing. `price` is what the config says that the cloud model costs, if it does.
    """

    cloud_model: str | None = None
    energy: Energy | None = None
    price: ConfigPrice | None = None


# What requests cost by their sums, None if it is unknown.
_Price: TypeAlias = "Callable[[Sum], Decimal | None]"


class Pricing:
    """What requests cost, and what they would have cost; prices are looked up once for each cell.

    For requests that the cloud model itself answered, the two are equal.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._prices: dict[Cell, tuple[_Price | None, _Price]] = {}
        self._days: dict[tuple[str | None, str | None, str], str] = {}
        self._first_days: dict[tuple[Any, ...], str] = {}

    def add(self, tally: Tally, cell: Cell, total: Sum) -> None:
        """Add what the requests cost, and what their tokens would have cost in the cloud."""
        prices = self._prices.get(cell)
        if prices is None:
            prices = self._prices[cell] = self._look_up(cell)
        paid, compared = prices
        in_cloud = compared(total)
        # Without a price of its own, it is what was paid.
        spent = in_cloud if paid is None else paid(total)
        saved = None if spent is None or in_cloud is None else in_cloud - spent
        requests = total.requests
        tally.spent.add(spent, requests)
        tally.in_cloud.add(in_cloud, requests)
        tally.saved.add(saved, requests)

    def priced_day(self, route: Route, day: str) -> str:
        """Return the first day asked for on which such requests have the same prices."""
        key = (route.model, route.version, day)
        if key not in self._days:
            models = self._models(route)
            on = date.fromisoformat(day)
            prices = (price_list(model, on) if model else None for model in models)
            self._days[key] = self._first_days.setdefault((*models, *prices), day)
        return self._days[key]

    def _models(self, route: Route) -> tuple[str | None, str | None]:
        """Return the models whose prices were paid, and are compared with."""
        cloud_model = self._comparison.cloud_model
        model = with_version(route.model, route.version) if route.model else None
        is_cloud_model = route.model and cloud_model and same_model(route.model, cloud_model)
        return model, model if is_cloud_model else cloud_model

    def _look_up(self, cell: Cell) -> tuple[_Price | None, _Price]:
        """Return the price that was paid, None if it is the other one: that of the cloud."""
        route, energy = cell.route, self._comparison.energy
        model, compared_with = self._models(route)
        cloud_price = self._comparison.price
        compared = _own(cloud_price, cell) if cloud_price else _price(compared_with, cell)
        if route.cached:
            return _nothing, compared
        if price := ConfigPrice.from_text(route.price):
            return _own(price, cell), compared
        if route.place == "here" and energy:
            return (_power(energy) if cell.timed else _unknown), compared
        if route.place != "cloud":
            return _nothing, compared
        same = model == compared_with and not cloud_price
        return (None if same else _price(model, cell)), compared


def _price(model: str | None, cell: Cell) -> _Price:
    """Return the dollars at a model's prices; they or the tokens may be unknown."""
    day = date.fromisoformat(cell.priced_on)
    prices = price_list(model, day) if model and cell.counted else None
    if prices is None:
        return _unknown
    if cell.shape != PLAIN:
        return lambda total: cell.shape.cost(prices, total.amounts, total.requests)
    rates = prices.steps[0]
    return lambda total: rates.cost(Tokens(total.input_tokens, total.output_tokens), total.requests)


def _own(price: ConfigPrice, cell: Cell) -> _Price:
    """Return the dollars at a price of the config; the tokens or times may be unknown."""

    def cost(total: Sum) -> Decimal | None:
        return price.cost(
            total.input_tokens if cell.counted else None,
            total.output_tokens if cell.counted else None,
            total.milliseconds if cell.timed else None,
        )

    return cost


def _power(energy: Energy) -> _Price:
    return lambda total: energy.cost(total.milliseconds)


def _nothing(_: Sum) -> Decimal:
    return Decimal(0)


def _unknown(_: Sum) -> None:
    return None
