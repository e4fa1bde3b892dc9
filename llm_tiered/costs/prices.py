"""Tokens → dollars, at the prices that ship with genai-prices. No network is used."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .. import gemini

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

# How the ids of the models that run on this machine begin.
LOCAL_PREFIX = "mlx/"

# An SQL expression for whether the model that answered a logged request runs on this machine.
IS_LOCAL_SQL = f"resolved_model glob '{LOCAL_PREFIX}*'"

# No model has a higher price for long prompts that starts below this many tokens.
LONG_PROMPT = 32_000

# The time of day whose price is used, for the few models that are cheaper at night.
_NOON = time(12, tzinfo=timezone.utc)


class Tokens(NamedTuple):
    """The tokens of one request, or the sum over several requests with the same rates.

    As llm-gemini counts them, `input` includes tokens from the service's cache and audio tokens,
    and `output` includes reasoning.
    """

    input: int
    output: int
    cached: int = 0
    audio: int = 0
    cached_audio: int = 0


def count_tokens(input_tokens: int, output_tokens: int, details: str | None) -> Tokens:
    """Return the tokens of a logged request; `details` is the JSON that llm-gemini adds.

    Raises ValueError if that is not such JSON, or if the numbers contradict each other.
    """
    counts = json.loads(details) if details else {}
    if not isinstance(counts, dict):
        raise ValueError(f"not token details: {details}")
    cached, audio, cached_audio = gemini.token_details(counts)
    if not 0 <= cached_audio <= min(cached, audio) <= cached + audio - cached_audio <= input_tokens:
        raise ValueError(f"contradictory token counts: {details}")
    return Tokens(input_tokens, output_tokens, cached, audio, cached_audio)


class Rates(NamedTuple):
    """Dollars per token of each kind, and per request."""

    input: Decimal
    cached: Decimal
    audio: Decimal
    cached_audio: Decimal
    output: Decimal
    request: Decimal

    def cost(self, tokens: Tokens, requests: int = 1) -> Decimal:
        """Return the dollars for the tokens of this many requests."""
        cached = tokens.cached - tokens.cached_audio
        audio = tokens.audio - tokens.cached_audio
        plain = tokens.input - cached - audio - tokens.cached_audio
        return (
            self.input * plain
            + self.cached * cached
            + self.audio * audio
            + self.cached_audio * tokens.cached_audio
            + self.output * tokens.output
            + self.request * requests
        )


@dataclass(frozen=True, eq=False)
class PriceList:
    """The prices of a model on a day.

    With some models all tokens cost more once the prompt exceeds a limit: `steps[i]` is for prompts
    of more than `limits[i - 1]` tokens.
    """

    limits: tuple[int, ...]
    steps: tuple[Rates, ...]

    def cost(self, tokens: Tokens, requests: int = 1) -> Decimal:
        """Return the dollars for one request, or for several without any long prompt."""
        step = bisect_left(self.limits, tokens.input) if requests == 1 else 0
        return self.steps[step].cost(tokens, requests)


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
    """Return whether the model with this id runs on this machine."""
    return model.startswith(LOCAL_PREFIX)


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


def highest_cost(model: str, input_tokens: int, max_output_tokens: int) -> Decimal | None:
    """Return the most that a planned request can cost, in dollars, or None if unknown."""
    return cost(model, Tokens(input_tokens, max_output_tokens))


def with_version(model: str, version: str | None) -> str:
    """Return the id to look up the price by, given the version that the service reported."""
    if not version:
        return model
    provider = _split(model)[0]
    return f"{provider}/{version}" if provider else version


@lru_cache(maxsize=10_000)
def price_list(model: str, on: date) -> PriceList | None:
    """Return the prices of a model on a day (UTC), or None if unknown.

    The price of a model that genai-prices lists without a price is unknown.
    """
    priced = _priced_model(model)
    return None if priced is None else priced.on(on)


@dataclass
class _PricedModel:
    """A model of genai-prices, with its price lists by the identity of their prices."""

    info: ModelInfo
    lists: dict[int, PriceList | None] = field(default_factory=dict)

    def on(self, day: date) -> PriceList | None:
        prices = self.info.get_prices(datetime.combine(day, _NOON))
        if id(prices) not in self.lists:
            self.lists[id(prices)] = _read(prices)
        return self.lists[id(prices)]


@lru_cache(maxsize=1000)
def _priced_model(model: str) -> _PricedModel | None:
    from genai_prices import Usage, calc_price

    provider, name = _split(model)
    for reference, provider_id in ((name, provider), (model, None)):
        try:
            return _PricedModel(calc_price(Usage(), reference, provider_id=provider_id).model)
        except LookupError:
            continue
    return None


def _split(model: str) -> tuple[str | None, str]:
    """Split an id such as `gemini/gemini-flash-latest`, as llm's plugins use them."""
    provider, slash, name = model.partition("/")
    return (provider, name) if slash else (None, model)


def _read(prices: ModelPrice) -> PriceList | None:
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
    return PriceList(tuple(limits), tuple(_rates(prices, limit + 1) for limit in (0, *limits)))


def _rates(prices: ModelPrice, prompt_tokens: int) -> Rates:
    """Return the rates for prompts of this length: one query for each kind of token."""
    from genai_prices import Usage

    def each(**kinds: int) -> Decimal:
        usage = Usage(input_tokens=prompt_tokens, **kinds)
        return prices.calc_price(usage)["input_price"] / prompt_tokens

    one = prices.calc_price(Usage(input_tokens=prompt_tokens, output_tokens=1))
    return Rates(
        input=each(),
        cached=each(cache_read_tokens=prompt_tokens),
        audio=each(input_audio_tokens=prompt_tokens),
        cached_audio=each(
            cache_read_tokens=prompt_tokens,
            input_audio_tokens=prompt_tokens,
            cache_audio_read_tokens=prompt_tokens,
        ),
        output=one["output_price"],
        request=one["total_price"] - one["input_price"] - one["output_price"],
    )
