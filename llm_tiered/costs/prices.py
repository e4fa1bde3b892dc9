"""Tokens → dollars, at the prices that ship with genai-prices. No network is used."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from decimal import Decimal
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from .. import gemini
from ..config.terms import PLACES, SERVER_PREFIX
from ..log.record import RESPONSE
from .usage import CACHE_READ, INPUT, OUTPUT, Units, count_units, parse_details

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_prices.types import ModelInfo, ModelPrice

    from ..config.terms import Place


# How the ids of the models that run on this machine begin.
LOCAL_PREFIX = "mlx/"

# An SQL expression for whether the model that answered a logged request runs on this machine, as
# far as its name tells.
IS_LOCAL_SQL = f"resolved_model glob '{LOCAL_PREFIX}*'"

# No model has a higher price for long prompts that starts below this many tokens.
LONG_PROMPT = 32_000

# Where the log has what the service calls the model that answered: Gemini, and all others.
VERSION_PATHS = (gemini.VERSION_PATH, f"$.{RESPONSE}.model")

# The token details that choose among a model's prices, such as {"service_tier": "priority"}.
CONTEXT = ("service_tier", "speed")
Context: TypeAlias = "tuple[tuple[str, str], ...]"

# The time of day whose price is used, for the few models that are cheaper at night.
_NOON = time(12, tzinfo=timezone.utc)


class Tokens(NamedTuple):
    """The tokens of one request, or the sum over several requests without details.

    `details` is the JSON of what else the service reported, and `model` the one that answered, if
    another one's price is asked for: each provider reports in its own way.
    """

    input: int
    output: int
    details: str | None = None
    model: str | None = None


class Charge(NamedTuple):
    """Dollars, and the names of what is not in them because its price is unknown."""

    dollars: Decimal
    unpriced: tuple[str, ...] = ()


def count_tokens(
    input_tokens: int, output_tokens: int, details: str | None, model: str | None = None
) -> Tokens:
    """Return the tokens of a logged request; `details` is the JSON in `token_details`.

    Raises ValueError if that is not such JSON.
    """
    parse_details(details)
    return Tokens(input_tokens, output_tokens, details or None, model)


@dataclass(frozen=True, eq=False)
class Rates:
    """Dollars per unit, and per request, for prompts of more than `limit` tokens.

    A price that a unit does not have of its own is that of the unit it is part of: cached tokens
    without a price cost as much as others. Some units are in no other: they need a price.
    """

    prices: ModelPrice
    limit: int
    input: Decimal
    output: Decimal
    request: Decimal
    others: dict[str, Decimal | None] = field(default_factory=dict)

    def cost(self, tokens: Tokens, requests: int) -> Decimal:
        """Return the dollars for the two totals of this many requests."""
        return self.input * tokens.input + self.output * tokens.output + self.request * requests

    def of(self, unit: str) -> Decimal | None:
        """Return the dollars for one of a unit, or None if they are unknown."""
        if unit not in self.others:
            self.others[unit] = _rate(self.prices, self.limit, unit)
        return self.others[unit]

    def charge(self, units: Units, requests: int = 1) -> Charge:
        """Return the dollars for the units of this many requests."""
        dollars, unpriced = self.request * requests, list(units.unknown)
        for unit, count in units.counts.items():
            rate = self.of(unit) if count else Decimal(0)
            if rate is None:
                unpriced.append(unit)
            else:
                dollars += rate * count
        return Charge(dollars, tuple(unpriced))


@dataclass(frozen=True, eq=False)
class PriceList:
    """The prices of a model of a provider on a day.

    With some models all tokens cost more once the prompt exceeds a limit: `steps[i]` is for prompts
    of more than `limits[i - 1]` tokens. `in_context` are the prices of requests that the service
    treats in another way than most.
    """

    provider: str
    limits: tuple[int, ...]
    steps: tuple[Rates, ...]
    in_context: Callable[[Context], PriceList | None]

    def cost(self, tokens: Tokens, requests: int = 1) -> Decimal | None:
        """Return the dollars for one request, or for several without any long prompt or details.

        None if the price of anything in it is unknown.
        """
        charge = self.charge(tokens, requests)
        return None if charge.unpriced else charge.dollars

    def charge(self, tokens: Tokens, requests: int = 1) -> Charge:
        """Return the dollars as far as they are known, and what is not in them."""
        if tokens.details is not None:
            return _charge_by_unit(self, tokens)
        return Charge(self.step(tokens.input if requests == 1 else 0).cost(tokens, requests))

    def step(self, prompt_tokens: int) -> Rates:
        """Return the rates for a prompt of this length."""
        return self.steps[bisect_left(self.limits, prompt_tokens)]


@lru_cache(maxsize=20_000)
def _charge_by_unit(prices: PriceList, tokens: Tokens) -> Charge:
    """Charge for a request with details; reports ask for the same one several times."""
    provider = provider_of(tokens.model) if tokens.model else prices.provider
    try:
        details = parse_details(tokens.details)
        units = count_units(tokens.input, tokens.output, details, provider)
        if context := context_of(details):
            prices = prices.in_context(context) or prices
    except ValueError:
        dollars = prices.step(tokens.input).cost(tokens, 1)
        return Charge(dollars, ("token counts that contradict each other",))
    return prices.step(units.counts[INPUT]).charge(units)


@dataclass(frozen=True)
class Energy:
    """The power drawn by local answers: watts while answering, and dollars per kWh."""

    watts: float
    price_per_kwh: Decimal

    def cost(self, milliseconds: int) -> Decimal:
        """Return the dollars for the power used while answering for this long."""
        kwh = Decimal(str(self.watts)) / 1000 * milliseconds / 3_600_000
        return kwh * self.price_per_kwh


def is_local(model: str) -> bool:
    """Return whether the model with this id runs on this machine, as far as that tells."""
    return model.startswith(LOCAL_PREFIX)


def place_of(model: str | None, logged: Any = None) -> Place:
    """Return where a model ran, given the place in the log; earlier versions logged none."""
    if logged in PLACES:
        return cast("Place", logged)
    return "here" if model and is_local(model) else "cloud"


def same_model(one: str, other: str) -> bool:
    """Return whether both ids mean the same model, with or without a provider in front."""
    return _split(one)[1] == _split(other)[1]


def cost(model: str, tokens: Tokens, on: date | None = None) -> Decimal | None:
    """Return the dollars for a request on a day (UTC; default today), or None if unknown.

    A local model costs nothing.
    """
    if is_local(model):
        return Decimal(0)
    prices = price_list(model, on or datetime.now(timezone.utc).date())
    return None if prices is None else prices.cost(tokens)


def cost_of_reading(model: str, *, fresh: int, cached: int = 0, output: int = 0) -> Decimal | None:
    """Return the dollars for a planned request, or None if the price is unknown.

    Of its input, `cached` tokens are in the model's prompt cache, and `fresh` ones are not.
    """
    if is_local(model):
        return Decimal(0)
    listed = price_list(model, datetime.now(timezone.utc).date())
    if listed is None:
        return None
    counts = {INPUT: fresh + cached, OUTPUT: output, CACHE_READ: cached}
    charge = listed.step(fresh + cached).charge(Units(counts))
    return None if charge.unpriced else charge.dollars


def provider_of(model: str) -> str | None:
    """Return the id that genai-prices has for the provider of a model, or None if unknown."""
    if is_local(model):
        # Its prices take long to import.
        return None
    priced = _priced_model(model)
    return None if priced is None else priced.provider


def highest_cost(
    model: str, input_tokens: int, max_output_tokens: int, details: str | None = None
) -> Decimal | None:
    """Return the most that a planned request can cost, in dollars, or None if unknown."""
    return cost(model, Tokens(input_tokens, max_output_tokens, details))


def version_of(reply: Any) -> str | None:
    """Return what the service calls the model that answered, or None if its reply does not say."""
    model = reply.get("model") if isinstance(reply, dict) else None
    return gemini.model_version(reply) or (model if isinstance(model, str) else None)


def with_version(model: str, version: str | None) -> str:
    """Return the id to look up the price by, given the version that the service reported."""
    if not version:
        return model
    version = version.removeprefix("models/")
    provider = _split(model)[0]
    return f"{provider}/{version}" if provider else version


@lru_cache(maxsize=10_000)
def price_list(model: str, on: date) -> PriceList | None:
    """Return the prices of a model on a day (UTC), or None if unknown.

    The price of a model that genai-prices lists without a price is unknown.
    """
    priced = _priced_model(model)
    return None if priced is None else priced.on(on)


def context_of(details: dict[str, Any]) -> Context:
    """Return what in the details of a request chooses among a model's prices."""
    return tuple((key, value) for key in CONTEXT if isinstance(value := details.get(key), str))


@dataclass
class _PricedModel:
    """A model of genai-prices, with its price lists by the identity of their prices."""

    info: ModelInfo
    provider: str
    lists: dict[Any, PriceList | None] = field(default_factory=dict)

    def on(self, day: date, context: Context = ()) -> PriceList | None:
        prices = self.info.get_prices(datetime.combine(day, _NOON), dict(context))
        # Prices in a context are made anew each time. A list serves all days with the same prices,
        # so that in a context it has those of today.
        key = (day, context) if context else id(prices)
        if key not in self.lists:
            today = datetime.now(timezone.utc).date()
            self.lists[key] = _read(prices, self.provider, partial(self.on, today))
        return self.lists[key]


@lru_cache(maxsize=1000)
def _priced_model(model: str) -> _PricedModel | None:
    from genai_prices import Usage, calc_price

    if model.startswith(SERVER_PREFIX):
        # Only the config knows what it costs, whatever its name.
        return None
    provider, name = _split(model)
    for reference, provider_id in ((name, provider), (model, None)):
        try:
            found = calc_price(Usage(), reference, provider_id=provider_id)
        except LookupError:
            continue
        return _PricedModel(found.model, found.provider.id)
    return None


def _split(model: str) -> tuple[str | None, str]:
    """Split an id such as `gemini/gemini-flash-latest`, as llm's plugins use them."""
    provider, slash, name = model.partition("/")
    return (provider, name) if slash else (None, model)


def _read(
    prices: ModelPrice, provider: str, in_context: Callable[[Context], PriceList | None]
) -> PriceList | None:
    from genai_prices.types import TieredPrices

    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    limits = sorted(
        {
            tier.start
            for price in vars(prices).values()
            if isinstance(price, TieredPrices)
            for tier in price.tiers
        }
    )
    steps = tuple(_rates(prices, limit) for limit in (0, *limits))
    return PriceList(provider, tuple(limits), steps, in_context)


def _rates(prices: ModelPrice, limit: int) -> Rates:
    from genai_prices import Usage

    nothing = prices.calc_price(Usage())["total_price"]
    return Rates(
        prices,
        limit,
        input=_rate(prices, limit, INPUT) or Decimal(0),
        output=_rate(prices, limit, OUTPUT) or Decimal(0),
        request=nothing,
    )


def _rate(prices: ModelPrice, limit: int, unit: str) -> Decimal | None:
    """Return the dollars that one more of a unit adds to a request, or None if unknown.

    For a part of other units that is the difference to their price.
    """
    from genai_prices import Usage

    if all(getattr(prices, key) is None for key in _price_keys(unit)):
        return None
    before = _some_of_each(limit)
    after = before | {unit: before.get(unit, 0) + 1}
    less, more = (prices.calc_price(Usage(**usage))["total_price"] for usage in (before, after))
    return more - less


@lru_cache(maxsize=100)
def _price_keys(unit: str) -> tuple[str, ...]:
    """Return the names of the prices that can apply to a unit: its own, and those it is part of."""
    from genai_prices.data_units import unit_data

    kinds = unit_data[unit]["dimensions"].items()
    return tuple(
        other["price_key"] for other in unit_data.values() if other["dimensions"].items() <= kinds
    )


@lru_cache(maxsize=10)
def _some_of_each(limit: int) -> dict[str, int]:
    """Return a request with more than `limit` prompt tokens, and a token of every kind to spare."""
    from genai_prices.data_units import unit_data

    tokens = {
        unit: kinds
        for unit, definition in unit_data.items()
        if (kinds := definition["dimensions"].items()) >= {("family", "tokens")}
    }
    usage = {
        unit: sum(kinds <= others for others in tokens.values()) for unit, kinds in tokens.items()
    }
    return usage | {INPUT: usage[INPUT] + limit}
