"""Prices are those of genai-prices, under the ids that models have in llm."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, StartDateConstraint, TieredPrices

from llm_tiered.costs import prices
from llm_tiered.costs.prices import (
    LOCAL_PREFIX,
    LONG_PROMPT,
    Energy,
    Tokens,
    cost,
    count_tokens,
    highest_cost,
    is_local,
    price_list,
    provider_of,
    same_model,
    with_version,
)
from llm_tiered.mlx.catalog import PREFIX

FLASH, PRO = "gemini/gemini-2.5-flash", "gemini/gemini-2.5-pro"
DAY = date(2026, 11, 1)
MILLION = 1_000_000
CACHED = "cachedContentTokenCount"
AUDIO = f'{{"modality": "AUDIO", "tokenCount": {MILLION}}}'
ALL_CACHED = f'"{CACHED}": {MILLION}, "cacheTokensDetails": [{AUDIO}]'


def dollars(model: str, tokens: Tokens, on: date = DAY) -> str | None:
    """Return the price in dollars, without trailing zeros."""
    amount = cost(model, tokens, on)
    return None if amount is None else f"{amount.normalize():f}"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (Tokens(MILLION, 0), "0.3"),
        (Tokens(0, MILLION), "2.5"),
        (Tokens(1, 1), "0.0000028"),
        (Tokens(MILLION, 0, f'{{"{CACHED}": {MILLION}}}'), "0.03"),
        (Tokens(MILLION, 0, f'{{"{CACHED}": 400000}}'), "0.192"),
        (Tokens(MILLION, 0, f'{{"promptTokensDetails": [{AUDIO}]}}'), "1"),
        (Tokens(MILLION, 0, f'{{"promptTokensDetails": [{AUDIO}], {ALL_CACHED}}}'), "0.1"),
        (Tokens(0, 0), "0"),
    ],
)
def test_kinds_of_tokens(tokens: Tokens, expected: str) -> None:
    """Input, output, cached and audio tokens have prices of their own, exact to the digit."""
    assert dollars(FLASH, tokens) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (Tokens(200_000, 1000), "0.26"),
        (Tokens(200_001, 1000), "0.5150025"),
    ],
)
def test_long_prompts_cost_more(tokens: Tokens, expected: str) -> None:
    """Above a model's limit all tokens have the higher price, at the limit they do not."""
    assert dollars(PRO, tokens) == expected


def test_no_limit_is_below_long_prompt() -> None:
    """Requests with prompts up to LONG_PROMPT can be added up, because no limit is lower."""
    prices = [
        price
        for provider in get_snapshot().providers
        for model in provider.models
        for price in (
            [model.prices]
            if isinstance(model.prices, ModelPrice)
            else [conditional.prices for conditional in model.prices]
        )
    ]
    limits = [
        tier.start
        for price in prices
        for value in vars(price).values()
        if isinstance(value, TieredPrices)
        for tier in value.tiers
    ]
    assert min(limits) >= LONG_PROMPT


def test_a_price_that_changes() -> None:
    """If a price changes, each request has the price of its day."""
    changes = [
        (model.id, condition.constraint.start_date)
        for provider in get_snapshot().providers
        if provider.id == "google"
        for model in provider.models
        if isinstance(model.prices, list)
        for condition in model.prices
        if isinstance(condition.constraint, StartDateConstraint)
    ]
    assert changes
    tokens, usage = Tokens(1000, 500), Usage(input_tokens=1000, output_tokens=500)
    for model, change in changes:
        for day in (change - timedelta(days=1), change):
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
            price = calc_price(usage, model, provider_id="google", genai_request_timestamp=noon)
            assert cost(f"gemini/{model}", tokens, day) == price.total_price


@pytest.mark.parametrize(
    "name",
    ["gemini/gemini-2.5-flash", "gemini-2.5-flash", "google/gemini-2.5-flash"],
)
def test_names_with_and_without_a_provider(name: str) -> None:
    """A model is found by its id in llm, with the plugin's prefix or without."""
    assert dollars(name, Tokens(MILLION, 0)) == "0.3"


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("gemini/gemini-flash-latest", "gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("gemini-flash-latest", "gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini/gemini-2.5-flash", None, "gemini/gemini-2.5-flash"),
    ],
)
def test_version(name: str, version: str | None, expected: str) -> None:
    """An alias such as `latest` costs what the version that answered costs."""
    assert with_version(name, version) == expected


@pytest.mark.parametrize(
    "name",
    [
        "gemini/gemini-9-nonesuch",
        "gemini/gemma-3-27b-it",
        "nobody/knows",
        "nobody",
        "gemini/",
        "",
        "ollama/mistral",
    ],
)
def test_an_unknown_price_is_none(name: str) -> None:
    """The price of an unknown model, or of one listed without a price, is not zero."""
    assert cost(name, Tokens(1, 1), DAY) is None
    assert price_list(name, DAY) is None
    assert highest_cost(name, 1, 1) is None


def test_local_models_cost_nothing() -> None:
    """Models on this machine are free, even unknown ones."""
    assert is_local("mlx/Qwen2.5-7B-Instruct-4bit")
    assert not is_local("gemini/gemini-2.5-flash")
    assert LOCAL_PREFIX == PREFIX
    assert cost("mlx/own", Tokens(MILLION, MILLION), DAY) == 0
    assert highest_cost("mlx/own", MILLION, MILLION) == 0


def test_highest_cost() -> None:
    """The highest cost is that of the input and the maximum number of output tokens."""
    assert highest_cost(FLASH, 10_000, 2000) == Decimal("0.008")


def test_energy() -> None:
    """An hour at 30 watts and 40 cents per kWh costs 1.2 cents."""
    assert Energy(watts=30, price_per_kwh=Decimal("0.4")).cost(3_600_000) == Decimal("0.012")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gemini/gemini-flash-latest", "gemini-flash-latest", True),
        ("gemini/gemini-flash-latest", "gemini/gemini-flash-latest", True),
        ("gemini/gemini-flash-latest", "gemini/gemini-2.5-flash", False),
    ],
)
def test_same_model(one: str, other: str, same: bool) -> None:
    """A model is the same with the plugin's prefix and without."""
    assert same_model(one, other) is same


def test_several_requests() -> None:
    """The sum over requests without details costs what they cost one by one."""
    prices = price_list(PRO, DAY)
    assert prices
    assert prices.cost(Tokens(300_000, 30), 3) == 3 * (prices.cost(Tokens(100_000, 10)) or 0)


@pytest.mark.parametrize("details", ["[]", "5", "{"])
def test_details_that_are_not_an_object(details: str) -> None:
    """Anything but a JSON object is an error."""
    with pytest.raises(ValueError, match=r"token details|Expecting"):
        count_tokens(10, 20, details)


def test_nothing_is_fetched(connections: list[Any]) -> None:
    """Prices come with the package, not from the network."""
    price_list.cache_clear()
    assert cost(FLASH, Tokens(1, 1), DAY)
    assert connections == []


def test_local_model_has_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prices, which take a second to import, are not asked for a model of this machine."""
    monkeypatch.setattr(prices, "_priced_model", lambda _: pytest.fail("it was looked up"))
    assert provider_of(f"{PREFIX}smollm2") is None
