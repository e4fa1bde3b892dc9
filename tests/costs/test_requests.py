"""The requests in the log: read as they are, and only read."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import sqlite_utils
from llm.migrations import MIGRATIONS

from llm_tiered.costs.periods import ALWAYS, Period
from llm_tiered.costs.prices import LONG_PROMPT, Tokens
from llm_tiered.costs.requests import (
    OtherModel,
    Requests,
    Route,
    first_request_time,
    read_other_models,
    read_routes,
)
from llm_tiered.errors import TieredError
from llm_tiered.log import database as log_database
from tests.make_log import CLOUD, END, MODELS, add, attempt, empty_log, gemini_response, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.costs.requests import By

MEDIUM = MODELS["medium"]
PLAIN = Route(key=None, model=MEDIUM, version=None, fallback=None, cached=False)


def older_log(path: Path, last_migration: str) -> None:
    """Write an empty log as the llm had it whose newest migration that was."""
    with closing(sqlite3.connect(path)) as connection:
        database = sqlite_utils.Database(connection)
        for migration in MIGRATIONS:
            migration(database)
            if migration.__name__ == last_migration:
                return


def read(path: Path, period: Period = ALWAYS, by: By | None = None) -> Any:
    """Give the requests by route, and the number of unreadable rows."""
    with log_database.reading(path) as database:
        [routes] = read_routes(database, period, [by])
    return dict(routes.requests), routes.unreadable


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log of llm."""
    empty_log(logs)
    return logs


def test_a_request_as_it_was_logged(log: Path) -> None:
    """Route, tokens and times are those of the row."""
    details = {"cachedContentTokenCount": 40}
    row = turn(
        model=CLOUD,
        tier="small",
        task="theory_analysis",
        input=100,
        output=20,
        details=details,
        ms=900,
        ttft=300,
        attempts=[attempt("small", MODELS["small"], "no room"), attempt("cloud", CLOUD)],
        response=gemini_response("gemini-2.5-flash"),
    )
    add(log, [row])
    route = Route(None, CLOUD, "gemini-2.5-flash", fallback="no room", cached=False)
    requests = Requests([END.isoformat()], [100], [20], [900], [300], [Tokens(100, 20, 40)])
    assert read(log) == ({route: requests}, 0)
    assert not route.local


def test_requests_of_one_route_stand_together(log: Path) -> None:
    """What went the same way is one group, whatever it took; the cache's answers are another."""
    add(log, [turn(ms=1), turn(ms=2), turn(ms=3, cached_from="x")])
    found, _ = read(log)
    assert {route: requests.durations for route, requests in found.items()} == {
        PLAIN: [1, 2],
        PLAIN._replace(cached=True): [3],
    }
    assert PLAIN.local


def test_long_prompts_stand_by_themselves(log: Path) -> None:
    """A prompt whose length may change its price has tokens of its own."""
    add(log, [turn(input=LONG_PROMPT), turn(input=LONG_PROMPT + 1)])
    found, _ = read(log)
    assert found[PLAIN].special == [None, Tokens(LONG_PROMPT + 1, 100)]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("cooling down for 42 s more after: boom", "cooling down for … s more after: boom"),
        ("the prompt has 5,321 tokens", "the prompt has … tokens"),
        ("needs 4.4 GB of memory", "needs … GB of memory"),
        ("Please retry in 36.6s.", "Please retry in … s."),
        ("HTTP status 503 for Phi-3.5-mini", "HTTP status 503 for Phi-3.5-mini"),
        (
            "over budget: $0.99 of $1.00 spent this day, and this may cost $0.0038",
            "over budget: … of … spent this day, and this may cost …",
        ),
    ],
)
def test_reasons_that_differ_in_a_number_are_one(log: Path, reason: str, told: str) -> None:
    """Seconds, sizes, tokens and dollars don't make another reason; other numbers do."""
    add(log, [turn(attempts=[attempt("cloud", CLOUD, reason)])])
    found, _ = read(log)
    assert [route.fallback for route in found] == [told]


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        (None, [None]),
        ("tier", ["medium", "cloud"]),
        ("task", [None, "theory_analysis"]),
        ("model", [MEDIUM]),
        ("day", ["2026-11-22"]),
    ],
)
def test_what_requests_are_grouped_by(log: Path, by: By | None, keys: list[str | None]) -> None:
    """A key is what is asked for, and nothing else keeps requests apart."""
    add(log, [turn(), turn(tier="cloud", task="theory_analysis")])
    found, _ = read(log, by=by)
    assert [route.key for route in found] == keys


def test_the_day_is_that_of_this_place(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for days, a request at 23:30 UTC belongs to the next day in Paris."""
    import time

    add(log, [turn(datetime(2026, 7, 1, 23, 30, tzinfo=timezone.utc))])
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        found, _ = read(log, by="day")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert [route.key for route in found] == ["2026-07-02"]


def test_a_period_since_long_ago_has_everything(log: Path) -> None:
    """A year is compared with those of the log as a number of four digits."""
    add(log, [turn()])
    found, _ = read(log, Period(since=datetime(26, 11, 1, tzinfo=timezone.utc)))
    assert sum(map(len, found.values())) == 1


def test_a_period_has_its_beginning_but_not_its_end(log: Path) -> None:
    """What happened at the first moment counts, what happened at the last does not."""
    hour = timedelta(hours=1)
    add(log, [turn(END - hour, ms=1), turn(END, ms=2), turn(END + hour, ms=3)])
    found, unreadable = read(log, Period(END, END + hour))
    assert (found[PLAIN].durations, unreadable) == ([2], 0)
    found, _ = read(log, Period(since=END))
    assert found[PLAIN].durations == [2, 3]
    found, _ = read(log, Period(until=END))
    assert found[PLAIN].durations == [1]


@pytest.mark.parametrize(
    "broken",
    [
        {"response_json": '{"tiered": {"tier": "med'},
        {"response_json": "\x00"},
        {"datetime_utc": None},
        {"datetime_utc": ""},
        {"datetime_utc": "yesterday"},
        {"datetime_utc": "2026-13-45T00:00:00"},
        {"datetime_utc": 5},
        {"input_tokens": "many"},
        {"input_tokens": -1},
        {"output_tokens": 1.5},
        {"output_tokens": b"\xff"},
        {"duration_ms": -1},
        {"token_details": '{"cachedContentTokenCount": '},
        {"token_details": '["cachedContentTokenCount"]'},
        {"token_details": '{"cachedContentTokenCount": 5000}'},
        {"token_details": b"\xff cachedContentTokenCount"},
        {"response_json": '{"tiered": {"ttft_ms": "soon"}}'},
    ],
)
def test_a_damaged_row_is_counted_apart(log: Path, broken: dict[str, Any]) -> None:
    """A row that makes no sense is not fatal, and the others are read, in any period."""
    add(log, [turn(ms=1), turn() | broken, turn(ms=3)])
    for period in (ALWAYS, Period(since=END), Period(until=END + timedelta(seconds=1))):
        found, unreadable = read(log, period)
        assert unreadable == 1, period
        assert [ms for requests in found.values() for ms in requests.durations] == [1, 3], period


@pytest.mark.parametrize(
    ("column", "text"),
    [("resolved_model", "Qwen"), ("response_json", "medium"), ("token_details", "AUDIO")],
)
def test_text_that_is_no_utf_8_is_read_all_the_same(log: Path, column: str, text: str) -> None:
    """A damaged byte in a text spoils nothing but that text."""
    add(log, [turn(ms=1), turn(ms=2, details={"AUDIO": "AUDIO"})])
    with closing(sqlite3.connect(log)) as database, database:
        # As a blob, or SQLite would mend it.
        damage = f"cast(replace({column}, ?, cast(? as text)) as text)"
        database.execute(f"update turns set {column} = {damage}", (text, text.encode() + b"\xff"))
    found, unreadable = read(log)
    durations = sorted(ms for requests in found.values() for ms in requests.durations)
    assert (durations, unreadable) == ([1, 2], 0)


def test_reading_starts_over_at_text_that_is_no_utf_8(log: Path) -> None:
    """What was read before the damage was met is not counted twice."""
    add(log, [turn(ms=1), turn(ms=2), turn(ms=3) | {"resolved_model": "mlx/x"}])
    with closing(sqlite3.connect(log)) as database, database:
        database.execute(
            "update turns set resolved_model = cast(x'6d6c782fff' as text) where duration_ms = 3"
        )
    found, _ = read(log)
    assert {route.model: requests.durations for route, requests in found.items()} == {
        MEDIUM: [1, 2],
        "mlx/\ufffd": [3],
    }


@pytest.mark.parametrize(
    "response_json",
    [None, "{}", "[]", "5", '"text"', '{"tiered": null}', '{"tiered": {"attempts": 5}}'],
)
def test_a_row_without_a_record_is_a_request(log: Path, response_json: str | None) -> None:
    """Where the record is missing or is something else, tier and task are unknown, no more."""
    add(log, [turn() | {"response_json": response_json}])
    found, unreadable = read(log, by="tier")
    assert list(found) == [PLAIN]
    assert unreadable == 0


def test_unknown_tokens_and_times_stay_unknown(log: Path) -> None:
    """What the log does not know is None, not zero."""
    add(log, [turn(input=None, output=None, ms=None, ttft=None, model=None)])
    found, unreadable = read(log)
    [(route, requests)] = found.items()
    assert requests == Requests([END.isoformat()], [None], [None], [None], [None], [None])
    assert route.model is None
    assert not route.local
    assert unreadable == 0


@pytest.mark.parametrize(
    ("version", "last_migration"),
    [
        ("0.12", "m011_fts_for_responses"),
        ("0.26", "m018_tool_instances"),
        ("0.31", "m021_tool_results_exception"),
    ],
)
def test_a_log_of_an_older_llm(logs: Path, version: str, last_migration: str) -> None:
    """Without turns, and without columns that came later, there is nothing of ours to find."""
    older_log(logs, last_migration)
    row: dict[str, Any] = {
        "id": "01hx",
        "model": "gpt-4o",
        "datetime_utc": "2024-05-01T10:00:00.000000",
    }
    if version != "0.12":
        row |= {"input_tokens": 7, "output_tokens": 5}
    add(logs, [row], table="responses")
    with log_database.reading(logs) as database:
        assert log_database.has_requests(database)
        assert read_routes(database, ALWAYS) == [([], 0)]
        assert first_request_time(database) is None
        tokens = (0, 0) if version == "0.12" else (7, 5)
        assert read_other_models(database, ALWAYS) == [OtherModel("gpt-4o", 1, *tokens)]


def test_both_tables_are_read(log: Path) -> None:
    """Requests to `tiered` in the table of the older llm count like those in the new one."""
    add(log, [turn(ms=1)])
    older = turn(END - timedelta(days=1), ms=2) | {"datetime_utc": "2026-11-21T18:00:00"}
    add(log, [older], table="responses")
    found, _ = read(log)
    assert found[PLAIN].durations == [1, 2]
    with log_database.reading(log) as database:
        assert first_request_time(database) == datetime(2026, 11, 21, 18, tzinfo=timezone.utc)


def test_turns_without_response_json(log: Path) -> None:
    """The turns of a log from before that column was there are requests without a record."""
    add(log, [turn()])
    with closing(sqlite3.connect(log)) as database:
        database.execute("alter table turns drop column response_json")
    found, unreadable = read(log)
    assert list(found) == [PLAIN]
    assert unreadable == 0


def test_other_models_are_counted_apart(log: Path) -> None:
    """By model, over both tables, most requests first; a row without a model is somebody's."""
    other = turn(input=10, output=1) | {"model": "gpt-4o"}
    add(log, [turn(), other, other | {"id": "2"}, other | {"id": "3", "model": None}])
    add(log, [other | {"input_tokens": None}], table="responses")
    with log_database.reading(log) as database:
        assert read_other_models(database, ALWAYS) == [
            OtherModel("gpt-4o", 3, 20, 3),
            OtherModel("unknown", 1, 10, 1),
        ]
        assert read_other_models(database, Period(until=END)) == []


def test_reading_changes_nothing(log: Path) -> None:
    """No migration, no byte written, no file beside the log."""
    add(log, [turn()])
    before, files = log.read_bytes(), sorted(log.parent.iterdir())
    read(log)
    assert log.read_bytes() == before
    assert sorted(log.parent.iterdir()) == files


def test_nothing_can_be_written(log: Path) -> None:
    """The log is opened for reading only."""
    with pytest.raises(TieredError, match="readonly"), log_database.reading(log) as database:
        database.execute("delete from turns")


def test_no_log_yet(logs: Path) -> None:
    """Without a log the error says so, and no log is made."""
    with pytest.raises(TieredError, match="there is no log yet"), log_database.reading(logs):
        pass
    assert not logs.exists()


def test_a_locked_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that another process keeps locked is one clear error, after some patience."""
    monkeypatch.setattr(log_database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(log, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with (
            pytest.raises(TieredError, match=r"locked \(try again in a moment\)"),
            log_database.reading(log) as database,
        ):
            read_routes(database, ALWAYS)


def test_a_log_in_write_ahead_mode(log: Path) -> None:
    """A log in that mode is read while another process writes to it."""
    with closing(sqlite3.connect(log)) as other:
        other.execute("pragma journal_mode = wal")
        add(log, [turn()])
        other.execute("delete from turns")
        found, _ = read(log)
    assert len(found[PLAIN]) == 1


@pytest.mark.parametrize("content", [b"no database at all, but text" * 50, b"SQLite format 3\x00"])
def test_a_file_that_is_no_database(logs: Path, content: bytes) -> None:
    """Something else with the log's name is one clear error."""
    logs.write_bytes(content)
    with pytest.raises(TieredError, match="can't be read"):
        read(logs)


def test_a_folder_in_its_place(logs: Path) -> None:
    """A folder with the log's name is one clear error."""
    logs.mkdir()
    with pytest.raises(TieredError, match="can't be read"):
        read(logs)


def test_a_database_of_something_else(logs: Path) -> None:
    """A database without llm's tables has no requests."""
    with closing(sqlite3.connect(logs)) as database:
        database.execute("create table cats (name text)")
    with log_database.reading(logs) as database:
        assert not log_database.has_requests(database)
        assert read_routes(database, ALWAYS) == [([], 0)]


def test_the_same_row_in_json_of_any_layout(log: Path) -> None:
    """The record is read as JSON: spaces and order don't matter."""
    row = turn(cached_from="x")
    compact = json.dumps(json.loads(row["response_json"]), separators=(",", ":"), sort_keys=True)
    add(log, [row, turn() | {"response_json": compact}])
    found, _ = read(log)
    assert [len(requests) for requests in found.values()] == [2]
