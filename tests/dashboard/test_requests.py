"""The cost of a single request, and the reason of its tier."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.money import Comparison
from llm_tiered.costs.prices import Energy
from llm_tiered.costs.savings import savings_report
from llm_tiered.dashboard.requests import find_request
from llm_tiered.log.record import Overruled, Record
from llm_tiered.wording import dollars
from tests.dashboard.conftest import FLASH, NOW
from tests.make_log import add, gemini_response, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.log.record import Source

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


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("tier", "the request named cloud, but nothing may leave your machines"),
        ("conversation", "the conversation was on cloud, but nothing may leave your machines"),
        (
            "estimate",
            "estimated from the prompt; it would have gone to cloud, "
            "but nothing may leave your machines",
        ),
    ],
)
def test_a_request_that_may_not_go_to_its_tier(log: Path, source: Source, reason: str) -> None:
    """The reason is where the request would have gone, and why it did not."""
    overruled = Overruled("cloud", "nothing may leave your machines")
    record = Record(tier="big", source=source, private=True, overruled=overruled)
    add(log, [turn(NOW, id="one") | {"response_json": json.dumps(record.to_json(None))}])
    request = find_request(log, "one")
    assert request is not None
    assert request.reason == reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('{"tier": "big"}', "the request named the tier"),
        ('{"tier": "cloud"}', "the request named cloud, but did not go there"),
        *((options, "the request named the tier") for options in (None, "{", "[]", '{"tier": 1}')),
    ],
)
def test_a_named_tier_in_an_older_record(log: Path, options: str | None, reason: str) -> None:
    """Records of earlier versions lack what was overruled; the options have the named tier."""
    response_json = json.dumps(Record(tier="big", source="tier").to_json(None))
    row = turn(NOW, id="one") | {"response_json": response_json, "options_json": options}
    add(log, [row])
    request = find_request(log, "one")
    assert request is not None
    assert request.reason == reason
