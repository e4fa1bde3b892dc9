"""Tokens → dollars, at the prices that come with genai-prices. Nothing is fetched."""

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

LOCAL_PREFIX = "mlx/"

# Where a model costs more for long prompts, they are at least this long, in tokens.
LONG_PROMPT = 32_000

# Which of a day's prices counts, for models that are cheaper at night: nearly none are.
_NOON = time(12, tzinfo=timezone.utc)


class Tokens(NamedTuple):
    """The tokens of one request, or the sum over several that have the same rates.

    `input` includes those that came out of the service's cache and those of sound, `output`
    includes the thoughts, as llm-gemini counts them.
    """

    input: int
    output: int
    cached: int = 0
    audio: int = 0
    cached_audio: int = 0


def count(input_tokens: int, output_tokens: int, details: str | None) -> Tokens:
    """The tokens of a request as the log has them; `details` is the JSON that llm-gemini keeps.

    Raises ValueError where it is no such JSON, or where the numbers contradict each other.
    """
    kept = json.loads(details) if details else {}
    if not isinstance(kept, dict):
        raise ValueError(f"no details of tokens: {details}")
    cached, audio, cached_audio = gemini.token_details(kept)
    if not 0 <= cached_audio <= min(cached, audio) <= cached + audio - cached_audio <= input_tokens:
        raise ValueError(f"contradictory numbers of tokens: {details}")
    return Tokens(input_tokens, output_tokens, cached, audio, cached_audio)


class Rates(NamedTuple):
    """Dollars for a token of each kind, and for a request whatever its tokens."""

    input: Decimal
    cached: Decimal
    audio: Decimal
    cached_audio: Decimal
    output: Decimal
    request: Decimal

    def cost(self, tokens: Tokens, requests: int = 1) -> Decimal:
        """Dollars for these tokens of so many requests."""
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
    """What a model costs. With some, all tokens cost more once the prompt is over a limit."""

    limits: tuple[int, ...]
    steps: tuple[Rates, ...]

    def cost(self, tokens: Tokens, requests: int = 1) -> Decimal:
        """Dollars for a request, or for so many whose prompts are none of them a long one."""
        step = bisect_left(self.limits, tokens.input) if requests == 1 else 0
        return self.steps[step].cost(tokens, requests)


@dataclass(frozen=True)
class Energy:
    """What the power for local answers costs: watts while answering, dollars a kWh."""

    watts: float
    price_per_kwh: Decimal

    def cost(self, milliseconds: int) -> Decimal:
        """Dollars for the power that an answer took."""
        kwh = Decimal(str(self.watts)) / 1000 * milliseconds / 3_600_000
        return kwh * self.price_per_kwh


def is_local(model: str) -> bool:
    """Whether the model of that id runs on this machine."""
    return model.startswith(LOCAL_PREFIX)


def same_model(one: str, other: str) -> bool:
    """Whether both names mean one model, with or without a provider in front."""
    return _split(one)[1] == _split(other)[1]


def cost(model: str, tokens: Tokens, on: date | None = None) -> Decimal | None:
    """Dollars for a request to that model on that day (UTC; today), or None if nobody knows.

    A local model costs nothing.
    """
    if is_local(model):
        return Decimal(0)
    prices = price_list(model, on or datetime.now(timezone.utc).date())
    return None if prices is None else prices.cost(tokens)


def estimate(model: str, input_tokens: int, max_output_tokens: int) -> Decimal | None:
    """The most that a request can cost before it is made, in dollars; None if nobody knows."""
    return cost(model, Tokens(input_tokens, max_output_tokens))


def with_version(model: str, version: str | None) -> str:
    """The name for the price of a model whose service says which version of it answered."""
    if not version:
        return model
    provider = _split(model)[0]
    return f"{provider}/{version}" if provider else version


@lru_cache(maxsize=10_000)
def price_list(model: str, on: date) -> PriceList | None:
    """What the model of that id cost on that day (UTC), or None if nobody knows.

    A model that genai-prices lists without a price is one whose price nobody knows.
    """
    known = _find(model)
    return None if known is None else known.on(on)


@dataclass
class _Known:
    """A model of genai-prices, and what was worked out of its prices."""

    info: ModelInfo
    lists: dict[int, PriceList | None] = field(default_factory=dict)

    def on(self, day: date) -> PriceList | None:
        prices = self.info.get_prices(datetime.combine(day, _NOON))
        if id(prices) not in self.lists:
            self.lists[id(prices)] = _read(prices)
        return self.lists[id(prices)]


@lru_cache(maxsize=1000)
def _find(model: str) -> _Known | None:
    from genai_prices import Usage, calc_price

    provider, name = _split(model)
    for reference, provider_id in ((name, provider), (model, None)):
        try:
            return _Known(calc_price(Usage(), reference, provider_id=provider_id).model)
        except LookupError:
            continue
    return None


def _split(model: str) -> tuple[str | None, str]:
    """Provider and name: llm's plugins name their models `gemini/gemini-flash-latest`."""
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
    """The rates for prompts of that length, by asking for the price of nothing but one kind."""
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
