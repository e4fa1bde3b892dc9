"""What services report about their usage, held against genai-prices."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

from llm_tiered.costs import usage as costs_usage
from llm_tiered.costs.prices import Tokens, cost, count_tokens, price_list
from llm_tiered.costs.usage import Units, count_units

DAY = date(2026, 11, 28)
NOON = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)

ANTHROPIC, OPENAI, GEMINI = "anthropic/claude-sonnet-4-5", "gpt-5-mini", "gemini/gemini-2.5-flash"

# The model, its provider, input tokens, output tokens and details as llm's plugins log them, and
# the units that are charged for.
FORMS: list[tuple[str, str, int, int, dict[str, Any], dict[str, int]]] = [
    (
        *(ANTHROPIC, "anthropic", 100, 10, {"cache_read_input_tokens": 5000}),
        {"input_tokens": 5100, "cache_read_tokens": 5000},
    ),
    (
        *(ANTHROPIC, "anthropic", 100, 10, {"cache_creation_input_tokens": 5000}),
        {"input_tokens": 5100, "cache_write_tokens": 5000},
    ),
    (
        *(ANTHROPIC, "anthropic", 100, 10),
        {
            "cache_creation_input_tokens": 5000,
            "cache_read_input_tokens": 300,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 1000,
                "ephemeral_1h_input_tokens": 4000,
            },
            "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1},
            "service_tier": "standard",
        },
        {
            "input_tokens": 5400,
            "cache_write_tokens": 5000,
            "cache_write_5m_tokens": 1000,
            "cache_write_1h_tokens": 4000,
            "cache_read_tokens": 300,
            "web_searches": 3,
        },
    ),
    (
        *(ANTHROPIC, "anthropic", 100, 10, {"cache_creation": {"ephemeral_1h_input_tokens": 400}}),
        {"input_tokens": 500, "cache_write_tokens": 400, "cache_write_1h_tokens": 400},
    ),
    (
        *(OPENAI, "openai", 5000, 100),
        {
            "prompt_tokens_details": {"cached_tokens": 4000},
            "completion_tokens_details": {"reasoning_tokens": 60},
        },
        {"cache_read_tokens": 4000, "output_reasoning_tokens": 60},
    ),
    (
        *(OPENAI, "openai", 5000, 100),
        {
            "input_tokens_details": {"cached_tokens": 4000},
            "output_tokens_details": {"reasoning_tokens": 60},
        },
        {"cache_read_tokens": 4000, "output_reasoning_tokens": 60},
    ),
    (
        *("gpt-4o-audio-preview", "openai", 500, 100),
        {
            "prompt_tokens_details": {"audio_tokens": 400},
            "completion_tokens_details": {"audio_tokens": 90, "text_tokens": 10},
        },
        {"input_audio_tokens": 400, "output_audio_tokens": 90},
    ),
    (
        *(GEMINI, "google", 1300, 100),
        {
            "candidatesTokenCount": 30,
            "thoughtsTokenCount": 70,
            "toolUsePromptTokenCount": 300,
            "cachedContentTokenCount": 600,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 700},
                {"modality": "AUDIO", "tokenCount": 300},
            ],
            "cacheTokensDetails": [
                {"modality": "TEXT", "tokenCount": 500},
                {"modality": "AUDIO", "tokenCount": 100},
            ],
        },
        {"cache_read_tokens": 600, "input_audio_tokens": 300, "cache_audio_read_tokens": 100},
    ),
    (
        *(GEMINI, "google", 1000, 100),
        {
            "cachedContentTokenCount": 600,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 300}],
        },
        {"cache_read_tokens": 600, "input_audio_tokens": 300, "cache_audio_read_tokens": 0},
    ),
    (
        *("deepseek/deepseek-chat", "deepseek", 1000, 100),
        {"prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 100},
        {"cache_read_tokens": 900},
    ),
    (
        *("deepseek/deepseek-chat", "deepseek", 1000, 100),
        {"prompt_cache_hit_tokens": 900, "prompt_tokens_details": {"cached_tokens": 900}},
        {"cache_read_tokens": 900},
    ),
    (
        *("mistral/mistral-large-latest", "mistral", 1000, 100),
        {"prompt_tokens_details": {"cached_tokens": 900}, "num_cached_tokens": 900},
        {"cache_read_tokens": 900},
    ),
    (
        *("groq/openai/gpt-oss-120b", "groq", 1000, 100),
        {"queue_time": 0.1, "total_time": 1.2, "prompt_tokens_details": {"cached_tokens": 500}},
        {"cache_read_tokens": 500},
    ),
    (
        *("x-ai/grok-4.20", "x-ai", 1000, 100),
        {"completion_tokens_details": {"reasoning_tokens": 50}},
        {"output_tokens": 150},
    ),
    (
        *("openrouter/anthropic/claude-sonnet-4.5", "openrouter", 1000, 100),
        {"cost": 0.5, "is_byok": False, "prompt_tokens_details": {"cached_tokens": 500}},
        {"cache_read_tokens": 500},
    ),
]


@pytest.mark.parametrize(("model", "provider", "inputs", "outputs", "details", "units"), FORMS)
def test_forms_of_usage(  # noqa: PLR0913, PLR0917 - the columns of the table
    model: str,
    provider: str,
    inputs: int,
    outputs: int,
    details: dict[str, Any],
    units: dict[str, int],
) -> None:
    """Each provider's usage costs what genai-prices calculates for the same units."""
    usage = {"input_tokens": inputs, "output_tokens": outputs} | units
    name = model.removeprefix(f"{provider}/").removeprefix("gemini/")
    expected = calc_price(
        Usage(**usage), name, provider_id=provider, genai_request_timestamp=NOON
    ).total_price
    amount = cost(model, count_tokens(inputs, outputs, json.dumps(details)), DAY)
    assert amount == expected > 0


@pytest.mark.parametrize(
    ("model", "provider", "context"),
    [
        ("gpt-5-mini", "openai", {"service_tier": "priority"}),
        ("gpt-5-mini", "openai", {"service_tier": "flex"}),
        ("claude-opus-4-8", "anthropic", {"speed": "fast"}),
    ],
)
def test_prices_in_a_context(model: str, provider: str, context: dict[str, str]) -> None:
    """Faster or slower service than most requests get has its own price, where the list has one."""
    usage = Usage(input_tokens=1000, output_tokens=100)
    usual, special = (
        calc_price(
            usage,
            model,
            provider_id=provider,
            genai_request_timestamp=NOON,
            price_context=each,
        ).total_price
        for each in ({}, context)
    )
    name = f"{provider}/{model}"
    # The last genai-prices for Python 3.10 has no price for Anthropic's fast mode.
    assert (usual != special) or provider == "anthropic"
    assert cost(name, count_tokens(1000, 100, json.dumps(context)), DAY) == special
    assert cost(name, Tokens(1000, 100), DAY) == usual


@pytest.mark.parametrize("context", ["auto", "default", "standard", None, 5, {"a": 1}])
def test_an_ordinary_context(context: Any) -> None:
    """Service as usual, and what is no name of a service, change no price."""
    tokens = count_tokens(1000, 100, json.dumps({"service_tier": context}))
    prices = price_list(OPENAI, DAY)
    assert prices
    assert prices.charge(tokens).dollars == prices.cost(Tokens(1000, 100))


# Usage whose parts have prices of their own with some model.
USAGES: list[dict[str, int]] = [
    {"input_tokens": 1000, "output_tokens": 500},
    {"input_tokens": 32_000, "output_tokens": 7, "cache_read_tokens": 31_000},
    {
        **{"input_tokens": 300_001, "output_tokens": 9, "cache_read_tokens": 150_000},
        **{"cache_write_tokens": 2000, "cache_write_1h_tokens": 500, "cache_write_5m_tokens": 1500},
    },
    {
        **{"input_tokens": 5000, "output_tokens": 50, "cache_read_tokens": 1000},
        **{"input_audio_tokens": 3000, "cache_audio_read_tokens": 500, "output_audio_tokens": 10},
        **{"output_reasoning_tokens": 5, "input_image_tokens": 100, "cache_image_read_tokens": 20},
    },
]


def test_units_cost_what_the_library_says() -> None:
    """Every model of every provider costs what genai-prices calculates, to the last digit."""
    different = []
    compared = 0
    for provider in get_snapshot().providers:
        for model in provider.models[:5]:
            prices = price_list(f"{provider.id}/{model.id}", DAY)
            if prices is None or prices.provider != provider.id:
                continue
            found = model.get_prices(NOON)
            if prices.step(0).prices is not found:
                continue
            for usage in USAGES:
                charge = prices.step(usage["input_tokens"]).charge(Units(usage))
                compared += 1
                if charge != (found.calc_price(Usage(**usage))["total_price"], ()):
                    different.append((provider.id, model.id, usage, charge))
    assert different == []
    assert compared > 300


@pytest.mark.parametrize(
    ("model", "details"),
    [
        (GEMINI, {"cachedContentTokenCnt": 5}),
        (GEMINI, {"promptTokensDetails": [{"modality": "SMELL", "tokenCount": 5}]}),
        (ANTHROPIC, {"cache_read_inputs_tokens": 5}),
        (OPENAI, {"prompt_tokens_details": {"cached_token": 5}}),
        ("x-ai/grok-4.20", {"num_sources_used": 5}),
        ("mistral/mistral-large-latest", {"prompt_audio_seconds": 5}),
        (GEMINI, {"server_tool_use": {"map_requests": 5}}),
        (GEMINI, {"server_tool_use": {"code_execution_requests": 5}}),
    ],
)
def test_unknown_usage(model: str, details: dict[str, Any]) -> None:
    """A number that means nothing known, or has no price, makes the cost unknown, not zero."""
    tokens = count_tokens(1000, 100, json.dumps(details))
    assert cost(model, tokens, DAY) is None
    prices = price_list(model, DAY)
    assert prices
    dollars, unpriced = prices.charge(tokens)
    assert dollars == prices.cost(tokens._replace(details=None))
    assert len(unpriced) == 1


@pytest.mark.parametrize(
    "details",
    [
        None,
        {"totalTokenCount": 1100, "total_tokens": 1100},
        {"candidatesTokenCount": 30, "thoughtsTokenCount": 70},
        {"trafficType": "ON_DEMAND", "is_byok": True, "cached_tokens": None},
        {"cachedContentTokenCnt": 0},
        {"time_info": {"queue": 0.5}, "completion_time": 0.2},
        {"server_tool_use": {"web_fetch_requests": 4}},
    ],
)
def test_usage_that_costs_nothing(details: dict[str, Any] | None) -> None:
    """Sums, parts of the totals, times and text change no price."""
    assert cost(GEMINI, count_tokens(1000, 100, json.dumps(details)), DAY) == Decimal("0.00055")


@pytest.mark.parametrize(
    "details",
    [
        {"cachedContentTokenCount": 11},
        {"cachedContentTokenCount": -1},
        {"cachedContentTokenCount": "5"},
        {"cachedContentTokenCount": 0.5},
        {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 11}]},
        {"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}]},
    ],
)
def test_contradictory_numbers(details: dict[str, Any]) -> None:
    """More cached or audio tokens than tokens, or no numbers: the cost is unknown."""
    with pytest.raises(ValueError, match="token"):
        count_units(10, 20, details, "google")
    assert cost(GEMINI, count_tokens(10, 20, json.dumps(details)), DAY) is None


ODD: list[Any] = [None, "5", -1, 0.5, True, [], {}, [5], [[]], {"a": {"b": [None]}}, 10**30]


def test_damaged_details() -> None:
    """Whatever is found where a number should be, the cost is known or unknown: nothing raises."""
    keys = [path[0] for path in (*costs_usage._common_paths(), *costs_usage._MORE)]
    for key in {*keys, "cache_creation", "service_tier", "anything"}:
        for value in [*ODD, {"": 1}, [{"modality": [1], "tokenCount": "x"}], [{"ttl": None}]]:
            for model in (GEMINI, OPENAI, ANTHROPIC, "x-ai/grok-4.20"):
                tokens = count_tokens(1000, 100, json.dumps({key: value}))
                amount = cost(model, tokens, DAY)
                assert amount is None or amount >= 0, (key, value, model)


def test_another_models_price() -> None:
    """Tokens are counted as the provider that answered reports them, whoever's price is asked."""
    details = json.dumps({"cache_read_input_tokens": 5000})
    tokens = count_tokens(100, 10, details, ANTHROPIC)
    usage = Usage(input_tokens=5100, output_tokens=10, cache_read_tokens=5000)
    price = calc_price(usage, "gpt-5-mini", provider_id="openai", genai_request_timestamp=NOON)
    assert cost(OPENAI, tokens, DAY) == price.total_price
