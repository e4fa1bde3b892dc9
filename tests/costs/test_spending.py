"""What was spent so far, for comparison with the budget."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.ledger import Entry, Ledger, Spent
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.periods import Period
from llm_tiered.costs.savings import savings_report
from llm_tiered.costs.spending import period_starts, read_spent
from llm_tiered.errors import TieredError
from llm_tiered.log import database as log_database
from llm_tiered.paths import ledger_path
from tests.make_log import END, MODELS, add, empty_log, gemini_response, make_log, turn

if TYPE_CHECKING:
    from pathlib import Path

FLASH = "gemini/gemini-2.5-flash"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = datetime(2026, 11, 22, tzinfo=timezone.utc)
MONTH = datetime(2026, 11, 1, tzinfo=timezone.utc)
# The cost of one request of `cloud`.
ONE = Decimal("0.00055")


def cloud(when: datetime = TODAY + HOUR, **fields: Any) -> dict[str, Any]:
    """Return a request that a cloud model answered."""
    return turn(when, **{"model": FLASH, "tier": "cloud"} | fields)


def spent(log: Path) -> Spent:
    """Return what was spent since TODAY and since MONTH."""
    return read_spent(log, day=TODAY, month=MONTH)


def test_day_and_month(log: Path) -> None:
    """A request counts from the first moment of the day, and of the month."""
    moment = timedelta(milliseconds=1)
    times = (TODAY, TODAY + HOUR, TODAY - moment, MONTH, MONTH + 5 * DAY, MONTH - moment)
    add(log, [cloud(when) for when in times])
    assert spent(log) == Spent(day=2 * ONE, month=5 * ONE)


def test_a_day_before_the_month(log: Path) -> None:
    """A day that began before the month counts as a whole."""
    add(log, [cloud(MONTH - HOUR), cloud(MONTH)])
    assert read_spent(log, day=MONTH - 2 * HOUR, month=MONTH) == Spent(day=2 * ONE, month=ONE)


def test_only_the_cloud_costs(log: Path) -> None:
    """Local answers, answers from the cache and requests to other models cost nothing."""
    other = cloud() | {"model": FLASH}
    add(log, [cloud(), cloud(cached_from="x"), turn(TODAY + HOUR), other])
    assert spent(log) == Spent(ONE, ONE)


def test_special_tokens(log: Path) -> None:
    """Cached tokens, audio tokens and long prompts have the prices that they have alone."""
    pro = "gemini/gemini-2.5-pro"
    add(
        log,
        [
            cloud(input=10_000, details={"cachedContentTokenCount": 6000}),
            cloud(details={"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1000}]}),
            cloud(model=pro, input=200_001, output=0),
            cloud(model=pro, input=150_000, output=0),
        ],
    )
    expected = sum(map(Decimal, ("0.00163", "0.00125", "0.5000025", "0.1875")))
    assert spent(log).day == expected


def test_version(log: Path) -> None:
    """An alias such as `latest` costs what the version that answered costs."""
    response = gemini_response("gemini-2.5-flash")
    add(log, [cloud(model="gemini/gemini-flash-latest", response=response)])
    assert spent(log) == Spent(ONE, ONE)


@pytest.mark.parametrize(
    "broken",
    [
        {"resolved_model": "gemini/gemini-9"},
        {"resolved_model": None},
        {"input_tokens": None},
        {"output_tokens": "many"},
        {"input_tokens": -5},
        {"datetime_utc": ""},
        {"datetime_utc": None},
        {"datetime_utc": "2026-99-99T00:00:00"},
        {"token_details": '{"AUDIO": '},
    ],
)
def test_unknown_costs(log: Path, broken: dict[str, Any]) -> None:
    """A request of unknown cost is counted, and is not in the sums."""
    add(log, [cloud(), cloud() | broken])
    assert spent(log) == Spent(ONE, ONE, unpriced=1)


def test_damaged_record(log: Path) -> None:
    """If only the record is damaged, the price of the model that answered counts."""
    add(log, [cloud() | {"response_json": "{"}, cloud() | {"response_json": None}])
    assert spent(log) == Spent(2 * ONE, 2 * ONE)


def test_wrong_clocks(log: Path) -> None:
    """The time counts, not the id; requests dated later than tomorrow are left out."""
    late_id = turn(TODAY + 5 * HOUR)["id"]
    add(log, [cloud(TODAY - HOUR, id=late_id), cloud(TODAY + 3 * DAY), cloud(TODAY + 40 * DAY)])
    assert spent(log) == Spent(day=Decimal(0), month=ONE)


def test_an_id_from_before_midnight(log: Path) -> None:
    """A response created before midnight and requested after it belongs to the new day."""
    early_id = turn(TODAY - HOUR)["id"]
    add(log, [cloud(TODAY + HOUR, id=early_id)])
    assert spent(log) == Spent(ONE, ONE)


def test_new_requests(log: Path) -> None:
    """Requests that come into the log later are counted by the next call, whatever their day."""
    add(log, [cloud(MONTH + DAY), cloud()])
    assert spent(log) == Spent(ONE, 2 * ONE)
    add(log, [cloud(), cloud(TODAY - HOUR)])
    assert spent(log) == Spent(2 * ONE, 4 * ONE)


def test_many_requests(log: Path) -> None:
    """The log is copied on from the place that was reached, with local requests in between."""
    for _ in range(3):
        add(log, [cloud(), *(turn(TODAY + HOUR) for _ in range(150)), cloud()])
        spent(log)
    assert spent(log) == Spent(6 * ONE, 6 * ONE)


def test_an_earlier_month(log: Path) -> None:
    """Requests from before the first call's month are counted once they are asked for."""
    add(log, [cloud(MONTH - 5 * DAY), cloud()])
    assert spent(log).month == ONE
    assert read_spent(log, day=TODAY, month=MONTH - 10 * DAY).month == 2 * ONE


def test_no_refunds(log: Path) -> None:
    """Turns that are deleted, and a log that is replaced by an empty one, were paid for."""
    add(log, [cloud(MONTH + DAY), cloud(), cloud()])
    assert spent(log).month == 3 * ONE
    with closing(sqlite3.connect(log)) as database, database:
        database.execute("delete from turns where rowid > 1")
    assert spent(log).month == 3 * ONE
    add(log, [cloud()])
    assert spent(log).month == 4 * ONE
    log.rename(log.with_suffix(".old"))
    empty_log(log)
    add(log, [cloud()])
    assert spent(log).month == 5 * ONE


def test_a_log_that_comes_back(log: Path) -> None:
    """Turns that are deleted and imported again are counted once, in any order."""
    turns = [cloud(), cloud(), cloud(MONTH + DAY)]
    add(log, turns)
    assert spent(log).month == 3 * ONE
    with closing(sqlite3.connect(log)) as database, database:
        database.execute("delete from turns")
    add(log, [cloud(), *reversed(turns)])
    assert spent(log).month == 4 * ONE


def test_what_the_ledger_has_counts_once(log: Path) -> None:
    """A turn whose answer is in the ledger counts as it was written there, failed attempts too."""
    row = cloud()
    failed = Entry(row["id"], 1, TODAY + HOUR, FLASH, Decimal(2))
    with Ledger(ledger_path()) as ledger:
        ledger.put([failed, failed._replace(attempt=2, amount=Decimal(1), answer=True)])
    add(log, [row])
    assert spent(log) == Spent(Decimal(3), Decimal(3))


def test_an_answer_that_could_not_be_settled(log: Path) -> None:
    """What was held for an answer gives way to what the log says about it."""
    row = cloud()
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry(row["id"], 1, TODAY + HOUR, FLASH, Decimal(2), held=True)])
    assert spent(log).day == 2
    add(log, [row])
    assert spent(log).day == ONE


def test_sums_are_those_of_the_report(logs: Path) -> None:
    """For a generated log, day and month are what the report on savings says.

    Where the version that answered has no price, the budget counts what was asked for.
    """
    make_log(logs, 6000)
    day = TODAY - 5 * DAY
    sums = read_spent(logs, day=day, month=MONTH)
    for since, amount in ((day, sums.day), (MONTH, sums.month)):
        result = savings_report(
            logs, Comparison(MODELS["cloud"]), period=Period(since, day + 2 * DAY), now=END
        )
        with Ledger(ledger_path()) as ledger:
            entries = ledger.between(since, day + 2 * DAY)
        as_asked = sum(entry.amount or 0 for entry in entries if not entry.complete)
        assert result.total.spent.known + as_asked == amount > as_asked
    assert sums.unpriced == result.total.spent.unpriced > 0


@pytest.mark.parametrize("missing", ["log", "table", "columns"])
def test_nothing_spent(logs: Path, missing: str) -> None:
    """No log, the log of an older llm, or turns without columns: nothing was spent."""
    if missing != "log":
        with closing(sqlite3.connect(logs)) as database:
            table = "responses" if missing == "table" else "turns"
            database.execute(f"create table {table} (id text, model text)")
    assert spent(logs) == Spent()
    assert logs.exists() == (missing != "log")


def test_a_locked_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that another process keeps locked is one clear error."""
    monkeypatch.setattr(log_database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(log, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked"):
            spent(log)


def test_period_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Day and month begin at local midnight, across a change to summer time."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        day, month = period_starts(datetime(2026, 3, 30, 22, 30, tzinfo=timezone.utc))
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert day == datetime(2026, 3, 30, 22, tzinfo=timezone.utc)
    assert month == datetime(2026, 2, 28, 23, tzinfo=timezone.utc)
