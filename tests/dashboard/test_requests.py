"""The cost of a single request."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.money import Comparison
from llm_tiered.costs.prices import Energy
from llm_tiered.costs.savings import savings_report
from llm_tiered.dashboard.requests import find_request
from llm_tiered.wording import dollars
from tests.dashboard.conftest import FLASH, NOW
from tests.make_log import add, gemini_response, turn

if TYPE_CHECKING:
    from pathlib import Path

POWER = Energy(40, Decimal("0.3"))


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"ms": 90_000},
        {"cached_from": "other"},
        {"model": FLASH},
        {"model": "gemini/gemini-flash-latest", "response": gemini_response("gemini-2.5-pro")},
        {"model": FLASH, "details": {"cachedContentTokenCount": 900}},
        {"model": FLASH, "input": 300_000},
        {"model": FLASH, "output": None},
        {"model": "gemini/gemini-9"},
        {"model": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("energy", [None, POWER], ids=["free", "power"])
def test_the_cost_is_that_of_the_report(
    log: Path, row: dict[str, Any], energy: Energy | None
) -> None:
    """A request costs what the report says if it is the only one."""
    add(log, [turn(NOW, id="one", **row)])
    request = find_request(log, "one")
    assert request is not None
    spent = savings_report(log, Comparison(FLASH, energy)).total.spent
    assert request.cost(energy) == dollars(spent.dollars)
