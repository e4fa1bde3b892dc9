"""The queries behind the charts: they give what the charts show."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from llm_tiered.dashboard import figures, functions
from llm_tiered.dashboard.figures import Asked
from tests.dashboard.conftest import FLASH, NOW
from tests.make_log import MODELS, add, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.costs.requests import By
    from tests.dashboard.browsing import Site

NAMES = ("money", "days", "tiers", "tasks", "latency", "fallbacks", "latest")


@pytest.fixture
def year(log: Path) -> Path:
    """A year of requests, also such as are priced by themselves or by others, or have no price."""
    make_log(log, 300, end=NOW)
    repeated: dict[str, Any] = {"cached_from": "long", "input": 0, "output": 0}
    rows = [
        turn(NOW, model=FLASH, input=None),
        turn(NOW, id="long", model=FLASH, input=300_000),
        turn(NOW, **repeated),
        turn(NOW, **repeated | {"cached_from": "what is gone"}),
    ]
    add(log, rows)
    return log


def address(name: str, **arguments: str) -> str:
    """Give the address of a query."""
    given = {"since": "", "until": "", "cloud_model": FLASH} | arguments
    return f"/logs/tiered_{name}?{urlencode(given)}"


@pytest.mark.parametrize("name", NAMES)
async def test_each_query_can_be_read(year: Path, browse: Callable[..., Site], name: str) -> None:
    """Each query has a page with rows, which the page with the charts links to."""
    site = browse(year)
    linked = (await site.page()).links.values()
    assert any(f"/logs/tiered_{name}?" in link for link in linked)
    page = await site.page(address(name))
    assert page.status == 200
    assert len(page.tables[""]) > 1


async def test_money(year: Path, browse: Callable[..., Site]) -> None:
    """Dollars day by day are those of the report, to what a float can hold."""
    rows = await browse(year).rows(address("money"))
    groups = figures.load(year, Asked("", "")).reports["day"]["groups"]
    assert [row["day"] for row in rows] == [group["key"] for group in groups]
    for name, column in (("spent", "spent"), ("cloud_cost", "in_the_cloud"), ("saved", "saved")):
        shown = [float(group[name]["dollars"] or 0) for group in groups]
        assert [row[column] or 0 for row in rows] == pytest.approx(shown)
    unpriced = [group["saved"]["unpriced_requests"] for group in groups]
    assert [row["price_unknown"] for row in rows] == unpriced
    assert sum(unpriced) > 1


@pytest.mark.parametrize(("name", "by"), [("days", "day"), ("tiers", "tier"), ("tasks", "task")])
async def test_who_answered(year: Path, browse: Callable[..., Site], name: str, by: By) -> None:
    """Requests by day, tier and task are those of the report."""
    rows = await browse(year).rows(address(name))
    told = {
        row[by]: (
            row["requests"],
            row["answered_here"],
            row["answered_in_the_cloud"],
            row["answered_by_the_cache"],
        )
        for row in rows
    }
    groups = figures.load(year, Asked("", "")).reports[by]["groups"]
    names = ("requests", "local_requests", "cloud_requests", "cached_requests")
    assert told == {group["key"]: tuple(group[of] for of in names) for group in groups}


async def test_latency(year: Path, browse: Callable[..., Site]) -> None:
    """Percentiles are those of the report."""
    rows = await browse(year).rows(address("latency"))
    groups = figures.load(year, Asked("", "")).reports["tier"]["groups"]
    shown = {group["key"]: group["latency_ms"] for group in groups}
    for row in rows:
        expected = shown.pop(row["tier"])
        assert (row["p50_ms"], row["p95_ms"]) == pytest.approx((expected["p50"], expected["p95"]))
    assert not shown


async def test_fallbacks(year: Path, browse: Callable[..., Site]) -> None:
    """Reasons that differ in a number only are one."""
    rows = await browse(year).rows(address("fallbacks"))
    found = figures.load(year, Asked("", "")).reports["day"]["fallbacks"]
    assert {row["reason"]: row["requests"] for row in rows} == {
        one["reason"]: one["requests"] for one in found
    }
    assert any("…" in row["reason"] for row in rows)


@pytest.mark.parametrize("name", NAMES)
async def test_a_damaged_row(year: Path, browse: Callable[..., Site], name: str) -> None:
    """A row whose JSON is broken is left out, and does not end the query."""
    site = browse(year)
    sound = await site.rows(address(name))
    add(year, [turn(NOW) | {"response_json": "{broken"}])
    assert await site.rows(address(name)) == sound


async def test_the_links_ask_for_the_same_time(year: Path, browse: Callable[..., Site]) -> None:
    """A query that is opened from a chart tells of the requests that the chart shows."""
    site = browse(year)
    since, until = ((NOW - timedelta(days=age)).isoformat()[:19] for age in (90, 30))
    page = await site.page(f"/logs/-/tiered?since={since}&until={until}")
    rows = await site.rows(page.links["SQL query: requests by tier"])
    shown = {row[0]: int(row[1]) for row in page.tables["tiers"][1:]}
    assert {row["tier"]: row["requests"] for row in rows} == shown
    money = await site.rows(page.links["SQL query: saved and spent"])
    assert list(accumulate(row["requests"] for row in money))[-1] == sum(shown.values())


@pytest.mark.parametrize(
    "arguments",
    [
        (None, None, "2026-11-01", 1, 10, 10, None),
        ("gemini/gemini-9", None, "2026-11-01", 1, 10, 10, None),
        (FLASH, None, "some day", 1, 10, 10, None),
        (FLASH, None, None, 1, 10, 10, None),
        (FLASH, None, "2026-11-01", 1, None, 10, None),
        (FLASH, None, "2026-11-01", 1, 10, 10, "{"),
        (FLASH, None, "2026-11-01", 1, 10, 10, '{"cachedContentTokenCount": 11}'),
    ],
)
def test_an_unknown_cost_is_none(arguments: Any) -> None:
    """What nobody knows the price of costs null, not zero."""
    assert functions.cost(*arguments) is None


def test_a_known_cost() -> None:
    """A local request costs nothing, one in the cloud what the price list says."""
    assert functions.cost(MODELS["medium"], None, "2026-11-01", 1, 10, 10, None) == 0
    dollars = functions.cost(FLASH, None, "2026-11-01", 2, 1_000_000, 0, None)
    assert dollars == pytest.approx(0.3)
