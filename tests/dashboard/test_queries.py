"""The queries behind the charts give the figures of the charts."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from llm_tiered.dashboard import functions
from llm_tiered.dashboard.figures import TimeRange, load_figures
from tests.dashboard.conftest import FLASH, NOW
from tests.make_log import MODELS, add, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.costs.requests import By
    from tests.dashboard.browsing import Site

ALL = TimeRange("", "")
NAMES = ("money", "days", "tiers", "tasks", "latency", "fallbacks", "latest")


@pytest.fixture(scope="module")
def year_of_requests(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A log of a year, with requests priced individually, from the cache, or without a price."""
    log = tmp_path_factory.mktemp("year") / "logs.db"
    make_log(log, 300, end=NOW)
    repeated: dict[str, Any] = {"cached_from": "long", "input": 0, "output": 0}
    rows = [
        turn(NOW, model=FLASH, input=None),
        turn(NOW, id="long", model=FLASH, input=300_000),
        turn(NOW, **repeated),
        turn(NOW, **repeated | {"cached_from": "deleted"}),
    ]
    add(log, rows)
    return log.read_bytes()


@pytest.fixture
def year(log: Path, year_of_requests: bytes) -> Path:
    """The log of a year, which the test may change."""
    log.write_bytes(year_of_requests)
    return log


def address(name: str, **arguments: str) -> str:
    """Return the URL of a query."""
    parameters = {"since": "", "until": "", "cloud_model": FLASH} | arguments
    return f"/logs/tiered_{name}?{urlencode(parameters)}"


async def test_every_query(year: Path, browse: Callable[..., Site]) -> None:
    """Every query has rows, and the overview links to it."""
    site = browse(year)
    links = (await site.page()).links.values()
    assert [
        name for name in NAMES if not any(f"/logs/tiered_{name}?" in link for link in links)
    ] == []
    pages = {name: await site.page(address(name)) for name in NAMES}
    assert [name for name, page in pages.items() if page.status != 200] == []
    assert [name for name, page in pages.items() if len(page.tables[""]) <= 1] == []


async def test_money(year: Path, browse: Callable[..., Site]) -> None:
    """The dollars of each day are those of the report, within the precision of floats."""
    rows = await browse(year).rows(address("money"))
    groups = load_figures(year, ALL).reports["day"]["groups"]
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
    counts = {
        row[by]: (
            row["requests"],
            row["answered_here"],
            row["answered_in_the_cloud"],
            row["answered_by_the_cache"],
        )
        for row in rows
    }
    groups = load_figures(year, ALL).reports[by]["groups"]
    names = ("requests", "local_requests", "cloud_requests", "cached_requests")
    assert counts == {group["key"]: tuple(group[of] for of in names) for group in groups}


async def test_latency(year: Path, browse: Callable[..., Site]) -> None:
    """The percentiles are those of the report."""
    rows = await browse(year).rows(address("latency"))
    groups = load_figures(year, ALL).reports["tier"]["groups"]
    shown = {group["key"]: group["latency_ms"] for group in groups}
    for row in rows:
        expected = shown.pop(row["tier"])
        assert (row["p50_ms"], row["p95_ms"]) == pytest.approx((expected["p50"], expected["p95"]))
    assert not shown


async def test_fallbacks(year: Path, browse: Callable[..., Site]) -> None:
    """Reasons that differ only in a number are counted together."""
    rows = await browse(year).rows(address("fallbacks"))
    fallbacks = load_figures(year, ALL).reports["day"]["fallbacks"]
    assert {row["reason"]: row["requests"] for row in rows} == {
        one["reason"]: one["requests"] for one in fallbacks
    }
    assert any("…" in row["reason"] for row in rows)


async def test_a_damaged_row(year: Path, browse: Callable[..., Site]) -> None:
    """A row with damaged JSON is left out, and does not break any query."""
    site = browse(year)
    before = {name: await site.rows(address(name)) for name in NAMES}
    add(year, [turn(NOW) | {"response_json": "{broken"}])
    assert {name: await site.rows(address(name)) for name in NAMES} == before


async def test_links_have_the_period(year: Path, browse: Callable[..., Site]) -> None:
    """A query that is opened from a chart is about the same requests as the chart."""
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
    """A cost without a known price is null, not zero."""
    assert functions.cost(*arguments) is None


def test_a_known_cost() -> None:
    """A local request costs nothing, and one in the cloud what the price list says."""
    assert functions.cost(MODELS["medium"], None, "2026-11-01", 1, 10, 10, None) == 0
    dollars = functions.cost(FLASH, None, "2026-11-01", 2, 1_000_000, 0, None)
    assert dollars == pytest.approx(0.3)
