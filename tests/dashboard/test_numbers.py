"""Numbers as people read them."""

from __future__ import annotations

import pytest

from llm_tiered.dashboard.numbers import money


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
    """What is unknown is said, and is not zero."""
    assert money({"dollars": dollars, "unpriced_requests": unpriced}) == shown
