"""Amounts in the JSON of a report, as text."""

from __future__ import annotations

import pytest

from llm_tiered.dashboard.amounts import money


@pytest.mark.parametrize(
    ("dollars", "unpriced", "shown"),
    [
        ("1.5", 0, "$1.50"),
        ("0", 0, "$0"),
        (None, 3, "unknown"),
        ("0.25", 3, "$0.25, price unknown for 3"),
    ],
)
def test_money(dollars: str | None, unpriced: int, shown: str) -> None:
    """An unknown amount is not zero, and unknown prices are counted."""
    assert money({"dollars": dollars, "unpriced_requests": unpriced}) == shown
