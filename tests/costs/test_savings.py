"""The report on savings: its sums against sums by hand, its rates, groups and unknowns."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs import prices
from llm_tiered.costs.ledger import Entry, Ledger
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.periods import Period
from llm_tiered.costs.savings import savings_report
from llm_tiered.costs.spending import read_spent
from llm_tiered.costs.tally import Money
from llm_tiered.costs.times import Percentiles, Times
from llm_tiered.dashboard import functions, queries
from llm_tiered.errors import TieredError
from llm_tiered.paths import ledger_path
from llm_tiered.wording import dollars
from tests import gemini
from tests.costs.reports import FLASH, report
from tests.costs.test_usage import FORMS
from tests.make_log import END, MODELS, add, attempt, gemini_response, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from llm_tiered.costs.requests import By
    from tests.toys import Ask

SMALL, MEDIUM = MODELS["small"], MODELS["medium"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_sums_by_hand(log: Path) -> None:
    """What was spent, what the cloud would have cost and what was saved, exact to the digit."""
    in_cloud: dict[str, Any] = {
        "model": FLASH,
        "tier": "cloud",
        "response": gemini_response("gemini-2.5-flash"),
    }
    cached = {"cachedContentTokenCount": 6000, "thoughtsTokenCount": 100}
    add(
        log,
        [
            turn(model=SMALL, tier="small", input=2000, output=400),
            turn(model=MEDIUM, input=1000, output=100),
            turn(**in_cloud, input=10_000, output=800),
            turn(**in_cloud, input=10_000, output=800, details=cached),
            turn(**in_cloud, input=500, output=200, cached_from="01kapbk00hp3s08ybhck4stbtx"),
        ],
    )
    total = report(log).total
    local = Decimal("0.0016") + Decimal("0.00055")
    paid = Decimal("0.005") + Decimal("0.00338")
    hit = Decimal("0.00065")
    assert total.spent.dollars == paid
    assert total.in_cloud.dollars == local + paid + hit
    assert total.saved.dollars == local + hit
    assert (total.requests, total.local, total.cloud, total.cached) == (5, 2, 2, 1)
    assert (total.input_tokens, total.output_tokens) == (23_500, 2300)
    assert [money.unpriced for money in (total.spent, total.in_cloud, total.saved)] == [0, 0, 0]


def test_what_the_cache_saved(log: Path) -> None:
    """Each answer from the cache saves what the earlier one would have cost in the cloud."""
    first = turn(model=SMALL, input=2000, output=400)
    again = [turn(model=SMALL, input=0, output=0, cached_from=first["id"]) for _ in range(3)]
    add(log, [first, *again])
    total = report(log).total
    assert total.saved.dollars == 4 * Decimal("0.0016")
    assert (total.input_tokens, total.output_tokens) == (2000, 400)
    assert total.spent.dollars == 0


def test_cached_answer_whose_source_is_gone(log: Path) -> None:
    """What a repeated answer saved is unknown if the first one is no longer in the log."""
    add(log, [turn(model=SMALL, input=0, output=0, cached_from="gone")])
    total = report(log).total
    assert (total.saved.unpriced, total.cached, total.uncounted) == (1, 1, 1)


def test_rollout_side_by_side(log: Path) -> None:
    """Requests inside and outside a rollout are counted separately."""
    rows = [turn(model=MEDIUM), turn(model=MEDIUM), turn(model=FLASH, ms=9000), turn()]
    for row, included in zip(rows, (True, True, False), strict=False):
        record = json.loads(row["response_json"])
        record["tiered"]["rollout"] = {"name": "medium", "share": 0.5, "included": included}
        row["response_json"] = json.dumps(record)
    add(log, rows)
    groups = report(log, by="rollout").groups
    assert {key: tally.requests for key, tally in groups.items()} == {
        "medium, rolled out": 2,
        "medium, as before": 1,
        None: 1,
    }
    assert groups["medium, as before"].latency == Percentiles(9000, 9000)


def test_shares(log: Path) -> None:
    """Shares are of all requests."""
    failed = [attempt("medium", MEDIUM, "no room"), attempt("cloud", FLASH)]
    add(log, [turn(), turn(cached_from="x"), turn(), turn(model=FLASH, attempts=failed)])
    facts = report(log).total.as_dict()
    assert facts["local_share"] == 0.5
    assert facts["cache_hit_rate"] == 0.25
    assert facts["fallback_rate"] == 0.25


def test_month_and_year(log: Path) -> None:
    """The savings of ten days are converted to a month and a year."""
    add(log, [turn(END - 10 * DAY, input=1_000_000, output=0)])
    result = report(log)
    assert result.days == 10
    assert result.saved_per_year == Decimal("0.3") / 10 * Decimal("365.25")
    assert result.saved_per_month == Decimal("0.3") / 10 * Decimal("365.25") / 12


@pytest.mark.parametrize("tokens", [0, 1, 7, 1000, 123_456])
def test_written_rates_are_read_alike(log: Path, tokens: int) -> None:
    """The dashboard, which has the JSON, shows rates with the digits of the command line."""
    add(log, [turn(END - 90 * DAY, input=tokens, output=0)])
    result = report(log)
    facts = result.as_dict()
    for name in ("saved_per_month", "saved_per_year"):
        assert dollars(Decimal(facts[name])) == dollars(getattr(result, name)), name


@pytest.mark.parametrize(
    ("period", "days"),
    [
        (Period(), 20),
        (Period(since=END - 10 * DAY), 10),
        (Period(since=END - 100 * DAY), 20),
        (Period(until=END - 5 * DAY), 15),
        (Period(since=END - 10 * DAY, until=END + 5 * DAY), 10),
        (Period(since=END - HOUR), 1),
    ],
)
def test_length_of_the_period(log: Path, period: Period, days: int) -> None:
    """It is from the start of the period or the log to its end or now, at least a day."""
    add(log, [turn(END - 20 * DAY), turn(END - 7 * DAY), turn(END - HOUR / 2)])
    assert report(log, period=period).days == days


def test_times_and_speed(log: Path) -> None:
    """Times are those of all requests; the speed leaves out answers from the cache."""
    add(
        log,
        [
            turn(ms=1000, ttft=100, output=50),
            turn(ms=3000, ttft=300, output=150),
            turn(ms=2, ttft=2, output=500, cached_from="x"),
            turn(ms=None, ttft=None, output=70),
        ],
    )
    total = report(log).total
    assert total.latency == Percentiles(1000, 2800)
    assert total.first_output == Percentiles(100, 280)
    assert total.tokens_per_second == 50


def test_fallbacks(log: Path) -> None:
    """Reasons are counted, most frequent first, and numbers in them don't matter."""

    def fallback(reason: str) -> dict[str, Any]:
        attempts = [attempt("medium", MEDIUM, reason), attempt("small", SMALL)]
        return turn(model=SMALL, attempts=attempts)

    waits = [fallback(f"cooling down for {seconds} s more after: boom") for seconds in (7, 42)]
    add(log, [turn(), fallback("can't do tools"), *waits])
    assert report(log).as_dict()["fallbacks"] == [
        {"reason": "cooling down for … s more after: boom", "requests": 2, "rate": 0.5},
        {"reason": "can't do tools", "requests": 1, "rate": 0.25},
    ]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("day", {"2026-11-20": 1, "2026-11-22": 3}),
        ("tier", {"medium": 2, "cloud": 1, "small": 1}),
        ("task", {None: 3, "theory_analysis": 1}),
        ("model", {MEDIUM: 3, FLASH: 1}),
    ],
)
def test_groups(log: Path, by: By, expected: dict[str | None, int]) -> None:
    """Groups are ordered by day, or by size, and add up to the total."""
    noon = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
    add(
        log,
        [
            turn(noon - 2 * DAY),
            turn(noon, task="theory_analysis"),
            turn(noon, tier="cloud", model=FLASH),
            turn(noon, tier="small"),
        ],
    )
    result = report(log, by=by)
    assert list(result.groups) == list(expected)
    assert {key: tally.requests for key, tally in result.groups.items()} == expected
    assert sum(tally.spent.known for tally in result.groups.values()) == result.total.spent.dollars
    assert sum(tally.saved.known for tally in result.groups.values()) == result.total.saved.dollars
    assert sum(tally.input_tokens for tally in result.groups.values()) == result.total.input_tokens


def test_other_models(log: Path) -> None:
    """Requests to other models are in no sum."""
    add(log, [turn(), turn(model=FLASH) | {"model": FLASH}])
    add(log, [turn(model=None) | {"model": "gpt-4o"}], table="responses")
    result = report(log)
    assert result.total.requests == 1
    assert [(other.model, other.requests) for other in result.others] == [(FLASH, 1), ("gpt-4o", 1)]


def test_table_of_an_older_llm(log: Path) -> None:
    """Requests to `tiered` in the table of an older llm are in the sums."""
    add(log, [turn()])
    add(log, [turn(END - DAY)], table="responses")
    result = report(log)
    assert result.total.requests == 2
    assert result.total.in_cloud.dollars == 2 * Decimal("0.00055")


def test_no_requests(log: Path) -> None:
    """A log without requests to `tiered` gives a report without figures."""
    facts = report(log).as_dict()
    assert facts["total"]["requests"] == 0
    assert facts["total"]["local_share"] is facts["total"]["latency_ms"] is None
    assert facts["period"]["start"] is facts["saved_per_month"] is None


def test_a_period_without_requests(log: Path) -> None:
    """A period in the future gives a report without requests."""
    add(log, [turn()])
    result = report(log, period=Period(since=END + DAY))
    assert result.total.requests == 0
    assert result.days == 1
    assert result.saved_per_year == 0


def test_wrong_clocks(log: Path) -> None:
    """A request from the future is counted and reported; its time counts, not its id."""
    far = END + 400 * DAY
    id_of_long_ago = turn(END - 900 * DAY)["id"]
    add(log, [turn(END - 2 * DAY, id=id_of_long_ago), turn(far), turn(END)])
    result = report(log)
    assert result.total.requests == 3
    assert result.future == 1
    assert result.days == 2
    assert report(log, period=Period(since=END - 3 * DAY, until=END + HOUR)).total.requests == 2


def test_damaged_rows(log: Path) -> None:
    """Damaged rows are counted, and are in no sum."""
    broken = [turn() | {"response_json": "{"}, turn() | {"datetime_utc": "?"}]
    add(log, [turn(), *broken])
    result = report(log)
    assert (result.total.requests, result.unreadable) == (1, 2)


def test_another_database(logs: Path) -> None:
    """A database without llm's tables is one clear error."""
    with closing(sqlite3.connect(logs)) as database:
        database.execute("create table cats (name text)")
    with pytest.raises(TieredError, match="is not an llm log"):
        report(logs)


@pytest.mark.parametrize("by", [None, "day", "tier", "task", "model"])
def test_a_large_log_row_by_row(logs: Path, by: By | None) -> None:
    """The sums over a generated log are those of a plain loop over its rows."""
    make_log(logs, 500)
    latest = MODELS["cloud"]
    spent = in_cloud = Decimal(0)
    unpriced, durations = 0, []
    with closing(sqlite3.connect(logs)) as database:
        database.row_factory = sqlite3.Row
        for row in database.execute("select * from turns where model = 'tiered'"):
            record = json.loads(row["response_json"])
            local = row["resolved_model"].startswith("mlx/")
            tokens = prices.count_tokens(
                row["input_tokens"], row["output_tokens"], row["token_details"]
            )
            on = date.fromisoformat(row["datetime_utc"][:10])
            model = latest if local else "gemini/" + record["response"]["modelVersion"]
            amount = prices.cost(model, tokens, on)
            unpriced += amount is None
            in_cloud += amount or 0
            spent += 0 if local or record["tiered"]["cached_from"] else amount or 0
            durations.append(row["duration_ms"])
    result = report(logs, cloud_model=latest, by=by)
    assert result.total.requests == len(durations) == 450
    assert result.total.spent.dollars == spent > 0
    assert result.total.in_cloud.dollars == in_cloud > spent
    assert result.total.in_cloud.unpriced == unpriced > 0
    assert result.total.latency == Times.of(durations).percentiles
    assert math.isclose(result.total.share(result.total.cached) or 0, 0.08, abs_tol=0.04)


async def test_what_tiered_logs(
    ask: Ask, httpx_mock: HTTPXMock, logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """Prompts through the real `tiered` are in the report, with route, tokens and price."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8)
    await ask("Say hello", complexity=2)
    assert len(logged()) == 2
    result = savings_report(logs, Comparison(gemini.MODEL), by="tier")
    assert set(result.groups) == {"cloud", "small"}
    name = prices.with_version(gemini.MODEL, gemini.VERSION)
    assert result.total.spent.dollars == prices.cost(name, prices.Tokens(7, 5))
    assert (result.total.local, result.total.cloud) == (1, 1)
    assert (result.total.input_tokens, result.total.output_tokens) == (12, 7)
    assert result.unreadable == result.future == 0


def test_what_is_in_no_log(log: Path) -> None:
    """What failed, broke off or was not logged is a sum of its own; what is logged is not in it."""
    logged, deleted = turn(END, model=FLASH, tier="cloud"), turn(END, model=FLASH, tier="cloud")
    add(log, [logged, deleted])
    read_spent(log, day=END - DAY, month=END - DAY)
    failed = Entry(logged["id"], 1, END, FLASH, Decimal("0.25"))
    with Ledger(ledger_path()) as ledger:
        ledger.put(
            [
                failed,
                Entry("unlogged", 1, END, FLASH, Decimal("0.5"), answer=True),
                Entry("unknown", 1, END, "somebody/s", None, complete=False),
                Entry("partly", 1, END, FLASH, Decimal("0.125"), complete=False),
                Entry("before", 1, END - 3 * DAY, FLASH, Decimal(7)),
            ]
        )
    with closing(sqlite3.connect(log)) as database, database:
        database.execute("delete from turns where id = ?", (deleted["id"],))
    result = report(log, period=Period(END - DAY, END + DAY))
    assert result.total.spent.dollars == Decimal("0.00055")
    expected = Decimal("0.875") + Decimal("0.00055")
    assert result.unlogged == Money(expected, priced=4, unpriced=2)


def test_another_log_knows_no_ledger(log: Path, tmp_path: Path) -> None:
    """The ledger belongs to llm's own log; for any other one nothing is known of it."""
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("failed", 1, END, FLASH, Decimal("0.25"))])
    other = tmp_path / "other.db"
    shutil.copy(log, other)
    assert report(log).unlogged == Money(Decimal("0.25"), priced=1)
    assert report(other).unlogged == Money()


def ledger_of(log: Path) -> Any:
    """Return all usage forms of a log as the report, the ledger and the dashboard price them."""
    total = report(log, cloud_model=FLASH).total
    spent = read_spent(log, day=END - DAY, month=END - DAY)
    with closing(sqlite3.connect(log)) as database:
        functions.register(database)
        query = queries.build_queries(database)["tiered_money"].sql
        values = {"since": "", "until": "", "cloud_model": FLASH}
        rows = database.execute(query, values).fetchall()
    by_sql = sum(row[2] or 0 for row in rows)
    return total, spent, by_sql


def test_fast_paths_agree_for_all_providers(log: Path) -> None:
    """The report, the ledger and the dashboard's SQL cost what the requests cost one by one."""
    rows, expected = [], Decimal(0)
    for model, _, inputs, outputs, details, _ in FORMS:
        for usage in (details, None, details | {"oddTokens": 5}):
            row = turn(END, model=model, tier="cloud", input=inputs, output=outputs, details=usage)
            rows.append(row)
            amount = prices.cost(
                model,
                prices.count_tokens(inputs, outputs, json.dumps(usage) if usage else None),
                END.date(),
            )
            assert (amount is None) == (usage is not None and "oddTokens" in usage)
            expected += amount or 0
    add(log, rows)
    total, spent, by_sql = ledger_of(log)
    assert total.spent.known == expected
    assert total.spent.unpriced == spent.unpriced == len(FORMS)
    assert spent.day >= expected
    assert by_sql == pytest.approx(float(expected))
