"""What answers cost, by where their models run and what the config says."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.config.price import ConfigPrice
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.prices import Energy, price_list
from llm_tiered.costs.savings import savings_report
from llm_tiered.costs.spending import period_starts, read_spent
from tests.make_log import END, MODELS, add, turn

if TYPE_CHECKING:
    from pathlib import Path

OWN = {"place": "own"}
HERE = {"place": "here"}
PRICED = {"price": {"input": "1", "output": "10"}}
# 1000 tokens in, 100 out and 2 s, as `turn` has them.
BY_TOKENS = Decimal("0.002")
HOURLY = {"price": {"hour": "1.8"}}
BY_HOUR = Decimal("0.001")
# 36 W for 2 s.
POWER = Decimal("0.00002")


@pytest.mark.parametrize(
    ("model", "more", "spent"),
    [
        (MODELS["medium"], {}, POWER),
        (MODELS["medium"], OWN, Decimal(0)),
        ("llama3.2", HERE, POWER),
        ("llama3.2", HERE | PRICED, BY_TOKENS),
        ("llama3.2", OWN, Decimal(0)),
        ("server/big/Qwen3-32B", OWN, Decimal(0)),
        ("server/big/Qwen3-32B", OWN | PRICED, BY_TOKENS),
        ("server/big/Qwen3-32B", OWN | HOURLY, BY_HOUR),
        ("server/big/Qwen3-32B", {"place": "cloud"} | PRICED, BY_TOKENS),
        ("server/big/Qwen3-32B", {"place": "cloud"}, None),
        ("server/big/gpt-4o", {"place": "cloud"}, None),
    ],
)
def test_spent(log: Path, model: str, more: dict[str, Any], spent: Decimal | None) -> None:
    """What was spent is at the price in the row; without one, what the place says."""
    add(log, [turn(model=model, more=more)])
    energy = Energy(36, Decimal(1))
    total = savings_report(log, Comparison(MODELS["cloud"], energy), now=END).total
    assert total.spent.dollars == spent
    places = (total.local, total.own, total.cloud)
    place = more.get("place", "here")
    assert places == (place == "here", place == "own", place == "cloud")


def test_an_answer_from_the_cache_costs_nothing(log: Path) -> None:
    """Wherever its model runs."""
    add(log, [turn(id="a", more=OWN | PRICED), turn(more=OWN | PRICED, cached_from="a")])
    total = savings_report(log, Comparison(), now=END).total
    assert (total.own, total.cached, total.spent.dollars) == (1, 1, BY_TOKENS)


def test_compared_with_a_server_in_the_cloud(log: Path) -> None:
    """The price that the config has for the cloud tier is what the cloud would have cost."""
    add(log, [turn()])
    price = ConfigPrice(Decimal(1), Decimal(10))
    total = savings_report(log, Comparison("server/big/x", None, price), now=END).total
    assert (total.in_cloud.dollars, total.saved.dollars) == (BY_TOKENS, BY_TOKENS)


def test_the_users_machines_are_not_in_the_budget(log: Path) -> None:
    """Answers on the user's machines don't count towards the budget; a rented cloud model does."""
    more = [OWN | PRICED, HERE | PRICED, {"place": "cloud"} | PRICED]
    add(log, [turn(END, model="server/big/x", more=each) for each in more])
    day, month = period_starts(END)
    assert read_spent(log, day=day, month=month).day == BY_TOKENS


def test_nobody_knows_what_a_server_costs() -> None:
    """A name that looks like that of a service's model has no price on a server of its own."""
    assert price_list("server/big/gpt-4o", END.date()) is None
