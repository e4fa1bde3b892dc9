"""The price that the config gives a model."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from llm_tiered.config.price import ConfigPrice

BY_TOKENS = ConfigPrice(Decimal("0.10"), Decimal("0.40"))
BY_HOUR = ConfigPrice(hour=Decimal("1.20"))


def test_cost() -> None:
    """Tokens cost by the million, and time by the hour, as far as they are known."""
    assert BY_TOKENS.cost(1_000_000, 500_000, None) == Decimal("0.30")
    assert BY_HOUR.cost(None, None, 60_000) == Decimal("0.02")
    assert BY_TOKENS.cost(None, 1, 1) is None
    assert BY_HOUR.cost(1, 1, None) is None


@pytest.mark.parametrize("price", [BY_TOKENS, BY_HOUR])
def test_round_trip(price: ConfigPrice) -> None:
    """A price is read as it was written."""
    assert ConfigPrice.from_json(price.to_json()) == price
    assert ConfigPrice.from_text(price.to_text()) == price


@pytest.mark.parametrize(
    "value",
    [None, {}, [], "x", 5, {"input": "lots"}, {"day": "1"}, {"hour": None}, {"hour": "NaN"}],
)
def test_damaged(value: Any) -> None:
    """A damaged price counts as missing."""
    assert ConfigPrice.from_json(value) is None


@pytest.mark.parametrize("text", [None, 5, "", "{", "[]", '{"hour": "x"}'])
def test_damaged_text(text: Any) -> None:
    """So does one that is not JSON."""
    assert ConfigPrice.from_text(text) is None
