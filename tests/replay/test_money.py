"""What requests cost, and would cost with another model."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.prices import Tokens, cost
from llm_tiered.replay.money import Costs, interval_of
from tests.cli.commands import configure, run_json, tier
from tests.make_log import END, MODELS
from tests.replay.logs import add_request, said

if TYPE_CHECKING:
    from pathlib import Path

FLASH, PRO = "gemini/gemini-2.5-flash", "gemini/gemini-2.5-pro"


@pytest.fixture(autouse=True)
def _priced(user_path: Path) -> None:
    """A cloud tier with a known price."""
    configure(tier("small", "1-7", MODELS["small"]), tier("cloud", "8-10", FLASH))


def dollars(report: Any) -> tuple[Any, Any]:
    """The dollars before and after."""
    return tuple(report["cost"][side]["dollars"] for side in ("before", "after"))


def price(model: str) -> Decimal:
    """The price of the tokens of a generated request."""
    amount = cost(model, Tokens(1000, 100), END.date())
    assert amount is not None
    return amount


def test_the_same_tokens_at_other_prices(log: Path) -> None:
    """Requests that stay cost what they did; the others what the new model charges."""
    add_request(log, "1", **said("cloud", 9), model=FLASH)
    add_request(log, "2", **said("small", 2), model=MODELS["small"])
    dearer = run_json("replay", "--set", f"tiers.cloud.model={PRO}")
    assert [Decimal(each) for each in dollars(dearer)] == [price(FLASH), price(PRO)]
    cloud = run_json("replay", "--set", "tiers.cloud.complexity=1-10")
    assert [Decimal(each) for each in dollars(cloud)] == [price(FLASH), 2 * price(FLASH)]
    local = run_json("replay", "--set", "local_only=true")
    assert [Decimal(each) for each in dollars(local)] == [price(FLASH), 0]


def test_tiers_of_own_machines(log: Path) -> None:
    """Another machine of the user's costs what the config says of tokens, or else nothing."""
    add_request(log, "1", **said("cloud", 9), model=FLASH)
    server = {"server": "http://gpu-box:8000/v1", "place": "own"}
    big = tier("big", "8-10", "Qwen3-32B") | server
    configure(tier("small", "1-7", MODELS["small"]), big)
    assert dollars(run_json("replay"))[1] == "0"
    configure(tier("small", "1-7", MODELS["small"]), big | {"price": {"input": 1, "output": 20}})
    assert dollars(run_json("replay"))[1] == "0.003"
    configure(tier("small", "1-7", MODELS["small"]), big | {"price_per_hour": 2})
    assert dollars(run_json("replay"))[1] is None


def test_answers_from_the_cache(log: Path) -> None:
    """They cost nothing, and would not either."""
    add_request(log, "1", **said("small", 2), record={"cached_from": "0"}, input=0, output=0)
    assert dollars(run_json("replay", "--set", "tiers.cloud.complexity=1-10")) == ("0", "0")


def test_unknown_prices(log: Path) -> None:
    """A model without a known price makes the sum unknown, not smaller."""
    add_request(log, "1", **said("cloud", 9), model=FLASH)
    after = run_json("replay", "--set", "tiers.cloud.model=gemini/unheard-of")["cost"]["after"]
    assert (after["dollars"], after["unpriced_requests"]) == (None, 1)


def test_unknown_tokens(log: Path) -> None:
    """They are counted; a sum with too few known ones has no interval."""
    add_request(log, "1", **said("cloud", 9), model=FLASH, input=None)
    add_request(log, "2", **said("cloud", 9), model=FLASH)
    before = run_json("replay")["cost"]["before"]
    assert before == {
        "dollars": f"{price(FLASH).normalize():f}",
        "uncounted_requests": 1,
        "unpriced_requests": 0,
        "interval": None,
    }


def test_interval_of_unknown_tokens() -> None:
    """With enough others, the missing ones are taken for like them."""
    costs = Costs()
    for number in range(100):
        costs.add(Decimal(number % 2), counted=True)
    assert interval_of([costs]) is None
    for _ in range(10):
        costs.add(None, counted=False)
    interval = interval_of([costs])
    assert interval
    low, high = interval
    # Ten tosses of a coin are 5 plus or minus 1.96 times the square root of 2.5, and a bit more.
    assert (low, high) == pytest.approx((50 + 5 - 3.27, 50 + 5 + 3.27), abs=0.01)
    same = Costs()
    for _ in range(50):
        same.add(Decimal(2), counted=True)
    same.add(None, counted=False)
    assert interval_of([same]) == (102, 102)
    costs.add(None, counted=True)
    assert interval_of([same, costs]) is None
