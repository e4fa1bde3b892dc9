"""The prices in the report on savings, known and unknown ones."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

from llm_tiered.costs import prices
from llm_tiered.costs.prices import Energy
from tests.costs.reports import FLASH, report
from tests.make_log import MODELS, add, gemini_response, turn

if TYPE_CHECKING:
    from pathlib import Path

SMALL, MEDIUM = MODELS["small"], MODELS["medium"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_version(log: Path) -> None:
    """`latest` costs what the version that answered costs, and saves nothing."""
    latest = "gemini/gemini-flash-latest"
    row = turn(model=latest, response=gemini_response("gemini-2.5-flash"))
    add(log, [row])
    for cloud_model in (latest, "gemini-flash-latest"):
        total = report(log, cloud_model=cloud_model).total
        assert total.spent.dollars == total.in_cloud.dollars == Decimal("0.00055")
        assert total.saved.dollars == 0


def test_cheaper_cloud_model(log: Path) -> None:
    """An answer of a cheaper cloud model saves the difference."""
    add(log, [turn(model=FLASH, input=1000, output=100)])
    total = report(log, cloud_model="gemini/gemini-2.5-pro").total
    assert total.in_cloud.dollars == Decimal("0.00225")
    assert total.saved.dollars == Decimal("0.0017")


def test_a_price_that_changed(log: Path) -> None:
    """Requests before and after a change of price have the prices of their days."""
    model = "gemini/gemini-flash-latest"
    days = [date(2026, 12, 31), date(2027, 1, 1)]
    noons = [datetime(on.year, on.month, on.day, 12, tzinfo=timezone.utc) for on in days]
    add(log, [turn(noon, input=1000, output=100) for noon in noons])
    each = [prices.cost(model, prices.Tokens(1000, 100), on) for on in days]
    assert None not in each
    assert report(log, cloud_model=model).total.in_cloud.dollars == sum(filter(None, each))


def test_long_prompts_are_priced_one_by_one(log: Path) -> None:
    """The limit for long prompts applies to each prompt, not to their sum."""
    model = "gemini/gemini-2.5-pro"
    add(log, [turn(input=length, output=0) for length in (150_000, 150_000, 200_001, 10)])
    expected = Decimal("0.375") + Decimal("0.5000025") + Decimal("0.0000125")
    assert report(log, cloud_model=model).total.in_cloud.dollars == expected


def test_unknown_prices(log: Path) -> None:
    """Requests of unknown price are counted, and are not in the sum."""
    add(log, [turn(model=FLASH), turn(model="gemini/gemini-9"), turn(model=None), turn()])
    total = report(log).total
    assert (total.spent.dollars, total.spent.unpriced) == (Decimal("0.00055"), 2)
    assert (total.in_cloud.dollars, total.in_cloud.unpriced) == (4 * Decimal("0.00055"), 0)
    assert (total.saved.dollars, total.saved.unpriced) == (Decimal("0.00055"), 2)


def test_no_known_price(log: Path) -> None:
    """If no price is known, the sum is unknown, and so are the rates."""
    add(log, [turn(model="gemini/gemini-9")])
    result = report(log, cloud_model="gemini/gemini-9")
    facts = result.as_dict()
    unknown = {"dollars": None, "unpriced_requests": 1}
    assert facts["total"]["spent"] == facts["total"]["saved"] == unknown
    assert facts["saved_per_month"] is facts["saved_per_year"] is None


def test_unknown_tokens(log: Path) -> None:
    """A local answer with unknown tokens cost nothing, but its savings are unknown."""
    add(log, [turn(input=None, output=None), turn(output=None), turn(model=FLASH, input=None)])
    total = report(log).total
    assert (total.spent.dollars, total.spent.unpriced) == (Decimal(0), 1)
    assert (total.saved.dollars, total.saved.unpriced) == (None, 3)
    assert total.uncounted == 3
    assert (total.input_tokens, total.output_tokens) == (1000, 100)


def test_no_cloud_tier(log: Path) -> None:
    """Without a cloud tier, the cost in the cloud is unknown."""
    add(log, [turn()])
    total = report(log, cloud_model=None).total
    assert total.spent.dollars == 0
    assert total.in_cloud.dollars is total.saved.dollars is None


def test_energy(log: Path) -> None:
    """With a price of power, local answers have a cost, except those from the cache."""
    energy = Energy(watts=36, price_per_kwh=Decimal("0.5"))
    add(log, [turn(ms=1000), turn(ms=3000), turn(ms=None), turn(ms=9000, cached_from="x")])
    total = report(log, energy=energy).total
    assert (total.spent.dollars, total.spent.unpriced) == (Decimal("0.00002"), 1)
