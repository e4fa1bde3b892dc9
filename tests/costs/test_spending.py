"""What was spent so far: the sums that budgets are held against."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs import spending
from llm_tiered.costs.periods import Period
from llm_tiered.costs.savings import Comparison, savings_report
from llm_tiered.costs.spending import Spent, period_starts, read_spent
from llm_tiered.errors import TieredError
from llm_tiered.log import database as log_database
from tests.make_log import END, MODELS, VERSIONS, add, empty_log, gemini_response, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLASH = "gemini/gemini-2.5-flash"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = datetime(2026, 11, 22, tzinfo=timezone.utc)
MONTH = datetime(2026, 11, 1, tzinfo=timezone.utc)
# What one of these requests costs.
ONE = Decimal("0.00055")


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log of llm."""
    empty_log(logs)
    return logs


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Let no test know what another one's log held."""
    spending._add_up_once.cache_clear()
    yield
    spending._add_up_once.cache_clear()


def cloud(when: datetime = TODAY + HOUR, **said: Any) -> dict[str, Any]:
    """Give a request that a cloud model answered."""
    return turn(when, **{"model": FLASH, "tier": "cloud"} | said)


def ask(log: Path) -> Spent:
    """Give what was spent on TODAY and since MONTH."""
    return read_spent(log, day=TODAY, month=MONTH)


def test_day_and_month(log: Path) -> None:
    """Each request counts from the first moment of the day and of the month on, not before."""
    moment = timedelta(milliseconds=1)
    times = (TODAY, TODAY + HOUR, TODAY - moment, MONTH, MONTH + 5 * DAY, MONTH - moment)
    add(log, [cloud(when) for when in times])
    assert ask(log) == Spent(day=2 * ONE, month=5 * ONE)


def test_a_day_before_the_month(log: Path) -> None:
    """The two moments may be any: a day that began in the month before counts as a whole."""
    add(log, [cloud(MONTH - HOUR), cloud(MONTH)])
    assert read_spent(log, day=MONTH - 2 * HOUR, month=MONTH) == Spent(day=2 * ONE, month=ONE)


def test_only_the_cloud_costs(log: Path) -> None:
    """Local answers, answers out of the cache and requests to other models are not counted."""
    other = cloud() | {"model": FLASH}
    add(log, [cloud(), cloud(cached_from="x"), turn(TODAY + HOUR), other])
    assert ask(log) == Spent(ONE, ONE)


def test_special_tokens(log: Path) -> None:
    """Cached and audio tokens and long prompts cost what they cost one by one."""
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
    assert ask(log).day == expected


def test_the_version_that_answered_is_priced(log: Path) -> None:
    """An alias such as `latest` costs what the version behind it costs."""
    response = gemini_response("gemini-2.5-flash")
    add(log, [cloud(model="gemini/gemini-flash-latest", response=response)])
    assert ask(log) == Spent(ONE, ONE)


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
def test_what_is_unknown_is_counted_apart(log: Path, broken: dict[str, Any]) -> None:
    """A request whose cost nobody can tell is no zero: it is counted beside the sums."""
    add(log, [cloud(), cloud() | broken])
    assert ask(log) == Spent(ONE, ONE, unpriced=1)


def test_a_broken_record_still_costs(log: Path) -> None:
    """Where only the record is damaged, the price of the model that answered counts."""
    add(log, [cloud() | {"response_json": "{"}, cloud() | {"response_json": None}])
    assert ask(log) == Spent(2 * ONE, 2 * ONE)


def test_clocks_that_were_wrong(log: Path) -> None:
    """The time counts, not the id's; what is dated later than tomorrow is a mistake."""
    late_id = turn(TODAY + 5 * HOUR)["id"]
    add(log, [cloud(TODAY - HOUR, id=late_id), cloud(TODAY + 3 * DAY), cloud(TODAY + 40 * DAY)])
    assert ask(log) == Spent(day=Decimal(0), month=ONE)


def test_an_id_from_before_midnight(log: Path) -> None:
    """A response that was made before midnight and asked for after it belongs to the new day."""
    early_id = turn(TODAY - HOUR)["id"]
    add(log, [cloud(TODAY + HOUR, id=early_id)])
    assert ask(log) == Spent(ONE, ONE)


def test_what_is_logged_meanwhile_counts(log: Path) -> None:
    """Days that are over are read once; what anybody logs today is there at the next call."""
    add(log, [cloud(MONTH + DAY), cloud()])
    assert ask(log) == Spent(ONE, 2 * ONE)
    add(log, [cloud(), cloud(TODAY - HOUR)])
    assert ask(log) == Spent(2 * ONE, 4 * ONE)
    assert spending._add_up_once.cache_info().hits == 1


def test_another_log_in_the_same_place(log: Path) -> None:
    """A log that took the place of another is read anew."""
    add(log, [cloud(MONTH + DAY)])
    assert ask(log).month == ONE
    log.rename(log.with_suffix(".old"))
    empty_log(log)
    assert ask(log).month == 0


def test_sums_are_those_of_the_report(logs: Path) -> None:
    """On a made log, day and month are what the report says of them."""
    make_log(logs, 6000)
    day = TODAY - 5 * DAY
    found = read_spent(logs, day=day, month=MONTH)
    for since, amount in ((day, found.day), (MONTH, found.month)):
        made = savings_report(
            logs, Comparison(MODELS["cloud"]), period=Period(since, day + 2 * DAY), now=END
        )
        assert made.total.spent.dollars == amount > 0
    assert found.unpriced == made.total.spent.unpriced > 0


@pytest.mark.parametrize("missing", ["log", "table", "columns"])
def test_nothing_was_spent_without_turns(logs: Path, missing: str) -> None:
    """No log, a log of an older llm, or turns that know next to nothing: nothing was spent."""
    if missing != "log":
        with closing(sqlite3.connect(logs)) as database:
            table = "responses" if missing == "table" else "turns"
            database.execute(f"create table {table} (id text, model text)")
    assert ask(logs) == Spent()
    assert logs.exists() == (missing != "log")


def test_a_locked_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that another process keeps locked is one clear error."""
    monkeypatch.setattr(log_database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(log, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked"):
            ask(log)


def test_where_day_and_month_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """They begin at midnight where this machine is, on either side of a change of the clocks."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        day, month = period_starts(datetime(2026, 3, 30, 22, 30, tzinfo=timezone.utc))
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert day == datetime(2026, 3, 30, 22, tzinfo=timezone.utc)
    assert month == datetime(2026, 2, 28, 23, tzinfo=timezone.utc)


def test_a_made_log_is_the_same_each_time(tmp_path: Path) -> None:
    """The turns of a made log depend on their number alone, and have all that reports look at."""
    dumps = []
    for name in ("one.db", "two.db"):
        make_log(tmp_path / name, 300)
        with closing(sqlite3.connect(tmp_path / name)) as database:
            dumps.append(database.execute("select * from turns order by id").fetchall())
    assert dumps[0] == dumps[1]
    assert len(dumps[0]) == 300
    made = savings_report(tmp_path / "one.db", Comparison(MODELS["cloud"]), by="tier")
    assert set(made.groups) == {"small", "medium", "cloud"}
    assert made.total.fallbacks
    assert made.total.cached
    assert VERSIONS[-1] in str(dumps[0])
    assert {other.model for other in made.others} >= {"gpt-4o-mini"}
