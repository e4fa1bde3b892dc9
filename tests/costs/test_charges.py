"""The cost of logged requests and of finished responses."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from llm_tiered.costs.charges import (
    LoggedUsage,
    cost_of_response,
    cost_of_usage,
)
from tests.cache.replies import replying

FLASH, PRO = "gemini/gemini-2.5-flash", "gemini/gemini-2.5-pro"
USAGE = LoggedUsage(FLASH, None, "2026-11-22T18:00:00+00:00", 1000, 100)
ONE = Decimal("0.00055")


def test_one_request() -> None:
    """A request costs its tokens at the prices of its day."""
    assert cost_of_usage(USAGE) == ONE
    assert cost_of_usage(replace(USAGE, datetime_utc="2026-11-22")) == ONE


def test_several_requests() -> None:
    """The sum of several requests costs what they cost one by one."""
    usage = replace(USAGE, input_tokens=3000, output_tokens=300, requests=3)
    assert cost_of_usage(usage) == 3 * ONE


def test_long_prompts() -> None:
    """The limit for long prompts applies to one request, not to the sum of several."""
    usage = replace(USAGE, model=PRO, input_tokens=200_001, output_tokens=0)
    assert cost_of_usage(usage) == Decimal("0.5000025")
    assert cost_of_usage(replace(usage, requests=2)) == Decimal("0.25000125")


def test_version() -> None:
    """The price is that of the version that answered."""
    usage = replace(USAGE, model="gemini/gemini-flash-latest", version="gemini-2.5-flash")
    assert cost_of_usage(usage) == ONE


def test_cached_tokens() -> None:
    """Tokens from the service's cache are cheaper."""
    details = '{"cachedContentTokenCount": 6000}'
    usage = replace(USAGE, input_tokens=10_000, token_details=details)
    assert cost_of_usage(usage) == Decimal("0.00163")


def test_local_models() -> None:
    """A local model costs nothing, even if the tokens are unknown."""
    assert cost_of_usage(LoggedUsage("mlx/any", None, None, None, None)) == 0


def test_unknown_costs() -> None:
    """A cost that can't be known is None, whatever is unknown or damaged."""
    damages: list[dict[str, Any]] = [
        {"model": None},
        {"model": "gemini/gemini-9"},
        {"model": FLASH, "version": "gemini-9"},
        {"datetime_utc": None},
        {"datetime_utc": "yesterday"},
        {"datetime_utc": 5},
        {"datetime_utc": "2026-13-45T00:00:00"},
        {"input_tokens": None},
        {"input_tokens": "many"},
        {"input_tokens": -1},
        {"output_tokens": None},
        {"output_tokens": 1.5},
        {"output_tokens": -1},
        {"token_details": "{"},
        {"token_details": "[]"},
        {"token_details": '{"cachedContentTokenCount": 5000}'},
        {"token_details": '{"cachedContentTokenCount": "many"}'},
    ]
    priced = [damage for damage in damages if cost_of_usage(replace(USAGE, **damage)) is not None]
    assert priced == []


@pytest.mark.parametrize(
    ("resolved", "json", "details", "expected"),
    [
        (FLASH, None, None, "0.00155"),
        (FLASH, {"tiered": {}, "response": {"modelVersion": "gemini-2.5-flash"}}, None, "0.00155"),
        (FLASH, {"tiered": {}, "response": None}, {"cachedContentTokenCount": 1000}, "0.00128"),
        (PRO, {"modelVersion": "gemini-2.5-flash"}, None, "0.00155"),
        ("mlx/a", None, None, "0"),
        ("nobody/knows", None, None, None),
        (FLASH, None, {"cachedContentTokenCount": 9999}, None),
    ],
)
def test_finished_response(resolved: str, json: Any, details: Any, expected: str | None) -> None:
    """A response costs what genai-prices says for the model that gave it."""
    response = replying("Hello").prompt("Hello")
    response.text()
    response.set_resolved_model(resolved)
    response.response_json = json
    response.set_usage(input=1000, output=500, details=details)
    assert cost_of_response(response) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [((None, None), None), ((1000, None), "0.0003"), ((None, 500), "0.00125")],
)
def test_response_without_tokens(tokens: tuple[Any, Any], expected: str | None) -> None:
    """What a response cost is unknown if the service counts nothing, not zero."""
    response = replying("Hello").prompt("Hello")
    response.text()
    response.set_resolved_model(FLASH)
    response.set_usage(input=tokens[0], output=tokens[1])
    assert cost_of_response(response) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize("version", [{"modelVersion": "gemini-2.5-flash"}, {"model": "gpt-5-mini"}])
def test_the_model_that_answered(version: dict[str, str]) -> None:
    """Gemini's replies name the model in one way, all others in another."""
    response = replying("Hello").prompt("Hello")
    response.text()
    response.set_resolved_model("somebody-latest")
    response.response_json = {"tiered": {}, "response": version}
    response.set_usage(input=1000, output=500)
    expected = {"modelVersion": "0.00155", "model": "0.00125"}[next(iter(version))]
    assert cost_of_response(response) == Decimal(expected)
