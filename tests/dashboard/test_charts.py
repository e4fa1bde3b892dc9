"""The charts: their pictures, tables and texts."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from llm_tiered.dashboard import charts
from llm_tiered.dashboard.figures import TimeRange, load_figures
from llm_tiered.wording import dollars
from tests.cli.commands import run_json
from tests.dashboard.conftest import FLASH, NOW
from tests.make_log import add, attempt, make_log, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.dashboard.charts import Chart


def charts_of(log: Path) -> dict[str, Chart]:
    """Return the charts of all requests by name."""
    figures = load_figures(log, TimeRange("", ""))
    return {chart.name: chart for chart in charts.build_charts(figures)}


def test_each_chart_is_complete(filled: Path) -> None:
    """Each chart has a picture, a table with a column for each header, and a query."""
    for chart in charts_of(filled).values():
        assert chart.picture is not None
        assert chart.rows
        assert all(len(row) == len(chart.headers) for row in chart.rows)
        assert chart.query == f"tiered_{chart.name}"


def test_nothing_to_draw(log: Path) -> None:
    """Without requests, no chart has a picture."""
    assert [chart.picture for chart in charts_of(log).values()] == [None] * 6


def test_sums_of_the_last_day(log: Path) -> None:
    """On the last day, the sums of what was saved and spent are those of `llm tiered savings`."""
    make_log(log, 200, end=NOW)
    total = run_json("savings")["total"]
    money = charts_of(log)["money"]
    assert money.legend == (
        ("saved", f"saved {dollars_of(total, 'saved')}"),
        ("spent", f"spent {dollars_of(total, 'spent')}"),
    )
    assert money.rows[-1][-1] == dollars_of(total, "saved").partition(",")[0]


def dollars_of(total: dict[str, dict[str, str]], name: str) -> str:
    """Return an amount of the command's JSON as text."""
    unknown = total[name]["unpriced_requests"]
    more = f", price unknown for {unknown}" if unknown else ""
    return dollars(Decimal(total[name]["dollars"])) + more


def test_many_reasons(log: Path) -> None:
    """Only the most frequent reasons are drawn, but all of them are in the table."""
    reasons = [f"reason {letter}" for letter in "abcdefghijkl"]
    rows = [
        turn(
            NOW, model=FLASH, attempts=[attempt("medium", "mlx/a", reason), attempt("cloud", FLASH)]
        )
        for reason in reasons
    ]
    add(log, rows)
    fallbacks = charts_of(log)["fallbacks"]
    assert len(fallbacks.rows) == len(reasons)
    assert fallbacks.picture is not None
    assert len(fallbacks.picture.texts) == 2 * charts.REASONS


@pytest.mark.parametrize(
    ("value", "step", "shown"),
    [
        (0, 0.5, "$0"),
        (0.5, 0.5, "$0.50"),
        (1, 0.5, "$1.00"),
        (-2, 1, "-$2"),
        (1200, 200, "$1,200"),
        (0.002, 0.001, "$0.002"),
    ],
)
def test_dollars_at_the_axis(value: float, step: float, shown: str) -> None:
    """The labels of an axis have as many digits as its step needs."""
    assert charts._dollar_tick(value, step) == shown


def test_negative_savings(log: Path) -> None:
    """If the cloud would have been cheaper, the line is below zero, but inside the picture."""
    expensive = "gemini/gemini-2.5-pro"
    add(log, [turn(NOW - timedelta(days=age), model=expensive, tier="cloud") for age in (0, 1)])
    money = charts_of(log)["money"]
    assert money.rows[-1][-1].startswith("-$")
    assert money.picture is not None
    assert all(
        0 <= float(text.attributes["y"]) <= money.picture.height for text in money.picture.texts
    )
