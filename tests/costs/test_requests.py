"""The requests in the log are read, and the log is not changed."""

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
from llm_tiered.costs.requests import LoggedTurn, OtherModel, Range, read_turns
from llm_tiered.log import database as log_database
from llm_tiered.log.record import Record
from tests.costs.routes import Requests, Route, first_time, others, read, read_open
from tests.make_log import CLOUD, END, MODELS, add, attempt, gemini_response, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.costs.requests import By

MEDIUM = MODELS["medium"]


PLAIN = Route(key=None, model=MEDIUM, version=None, fallback=None, cached=False)


def older_log(path: Path, last_migration: str) -> None:
    """Write an empty log of the version of llm whose newest migration this was."""
    with closing(sqlite3.connect(path)) as connection:
        # Otherwise each migration would wait for the disk.
        connection.execute("pragma synchronous = off")
        database = sqlite_utils.Database(connection)
        for migration in MIGRATIONS:
            migration(database)
            if migration.__name__ == last_migration:
                return


def test_one_request(log: Path) -> None:
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
    tokens = Tokens(100, 20, json.dumps(details), CLOUD)
    requests = Requests([END.isoformat()], [100], [20], [900], [300], [tokens])
    assert read(log) == ({route: requests}, 0)
    with log_database.reading(log) as database:
        [one] = read_turns(database, Range("turns"))
    assert isinstance(one, LoggedTurn)
    assert one.route.place == "cloud"


def test_requests_of_one_route(log: Path) -> None:
    """Requests of one route are one group; answers from the cache are another."""
    add(log, [turn(ms=1), turn(ms=2), turn(ms=3, cached_from="x")])
    routes, _ = read(log)
    assert {route: requests.durations for route, requests in routes.items()} == {
        PLAIN: [1, 2],
        PLAIN._replace(cached=True): [3],
    }


def test_long_prompts(log: Path) -> None:
    """A prompt whose length may change the price has its own entry."""
    add(log, [turn(input=LONG_PROMPT), turn(input=LONG_PROMPT + 1)])
    routes, _ = read(log)
    assert routes[PLAIN].special == [None, Tokens(LONG_PROMPT + 1, 100, None, PLAIN.model)]


@pytest.mark.parametrize(
    ("reason", "without"),
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
def test_numbers_in_reasons(log: Path, reason: str, without: str) -> None:
    """Reasons that differ only in seconds, sizes, tokens or dollars are the same reason."""
    add(log, [turn(attempts=[attempt("cloud", CLOUD, reason)])])
    routes, _ = read(log)
    assert [route.fallback for route in routes] == [without]


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
def test_keys(log: Path, by: By | None, keys: list[str | None]) -> None:
    """Requests are grouped by what is asked for, and by nothing else."""
    add(log, [turn(), turn(tier="cloud", task="theory_analysis")])
    routes, _ = read(log, by=by)
    assert [route.key for route in routes] == keys


def test_days_are_local(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request at 23:30 UTC belongs to the next day in Paris."""
    import time

    add(log, [turn(datetime(2026, 7, 1, 23, 30, tzinfo=timezone.utc))])
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        routes, _ = read(log, by="day")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert [route.key for route in routes] == ["2026-07-02"]


def test_a_period_since_long_ago_has_everything(log: Path) -> None:
    """A year before 1000 compares correctly with those in the log."""
    add(log, [turn()])
    routes, _ = read(log, Period(since=datetime(26, 11, 1, tzinfo=timezone.utc)))
    assert sum(map(len, routes.values())) == 1


def test_period(log: Path) -> None:
    """A period includes its first moment and excludes its last."""
    hour = timedelta(hours=1)
    add(log, [turn(END - hour, ms=1), turn(END, ms=2), turn(END + hour, ms=3)])
    routes, unreadable = read(log, Period(END, END + hour))
    assert (routes[PLAIN].durations, unreadable) == ([2], 0)
    routes, _ = read(log, Period(since=END))
    assert routes[PLAIN].durations == [2, 3]
    routes, _ = read(log, Period(until=END))
    assert routes[PLAIN].durations == [1]


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
        {"token_details": b"\xff cachedContentTokenCount"},
        {"response_json": '{"tiered": {"ttft_ms": "soon"}}'},
    ],
)
def test_damaged_rows(log: Path, broken: dict[str, Any]) -> None:
    """A damaged row is counted as unreadable, in any period, and the others are read."""
    add(log, [turn(ms=1), turn() | broken, turn(ms=3)])
    for period in (ALWAYS, Period(since=END), Period(until=END + timedelta(seconds=1))):
        routes, unreadable = read(log, period)
        assert unreadable == 1, period
        assert [ms for requests in routes.values() for ms in requests.durations] == [1, 3], period


@pytest.mark.parametrize(
    ("column", "text"),
    [("resolved_model", "Qwen"), ("response_json", "medium"), ("token_details", "AUDIO")],
)
def test_invalid_utf_8(log: Path, column: str, text: str) -> None:
    """An invalid byte damages only its own text."""
    add(log, [turn(ms=1), turn(ms=2, details={"AUDIO": "AUDIO"})])
    with closing(sqlite3.connect(log)) as database, database:
        # As a blob, because SQLite would repair text.
        damage = f"cast(replace({column}, ?, cast(? as text)) as text)"
        database.execute(f"update turns set {column} = {damage}", (text, text.encode() + b"\xff"))
    routes, unreadable = read(log)
    durations = sorted(ms for requests in routes.values() for ms in requests.durations)
    assert (durations, unreadable) == ([1, 2], 0)


def test_reading_restarts_at_invalid_utf_8(log: Path) -> None:
    """Rows that were read before the damaged one are not counted twice."""
    add(log, [turn(ms=1), turn(ms=2), turn(ms=3) | {"resolved_model": "mlx/x"}])
    with closing(sqlite3.connect(log)) as database, database:
        database.execute(
            "update turns set resolved_model = cast(x'6d6c782fff' as text) where duration_ms = 3"
        )
    routes, _ = read(log)
    assert {route.model: requests.durations for route, requests in routes.items()} == {
        MEDIUM: [1, 2],
        "mlx/\ufffd": [3],
    }


@pytest.mark.parametrize(
    "response_json",
    [None, "{}", "[]", "5", '"text"', '{"tiered": null}', '{"tiered": {"attempts": 5}}'],
)
def test_rows_without_a_record(log: Path, response_json: str | None) -> None:
    """If the record is missing or has another form, only its fields are unknown."""
    add(log, [turn() | {"response_json": response_json}])
    routes, unreadable = read(log, by="tier")
    assert list(routes) == [PLAIN]
    assert unreadable == 0


def test_unknown_tokens_and_times(log: Path) -> None:
    """Unknown values are None, not zero."""
    add(log, [turn(input=None, output=None, ms=None, ttft=None, model=None)])
    routes, unreadable = read(log)
    [(route, requests)] = routes.items()
    assert requests == Requests([END.isoformat()], [None], [None], [None], [None], [None])
    assert route.model is None
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
    """A log without turns, or without later columns, has no requests to tiered."""
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
        assert read_open(database) == ({}, 0)
        assert first_time(database) is None
        tokens = (0, 0) if version == "0.12" else (7, 5)
        assert others(database) == [OtherModel("gpt-4o", 1, *tokens)]


def test_both_tables_are_read(log: Path) -> None:
    """Requests to `tiered` in the table of an older llm count too."""
    add(log, [turn(ms=1)])
    older = turn(END - timedelta(days=1), ms=2) | {"datetime_utc": "2026-11-21T18:00:00"}
    add(log, [older], table="responses")
    routes, _ = read(log)
    assert routes[PLAIN].durations == [1, 2]
    with log_database.reading(log) as database:
        assert first_time(database) == datetime(2026, 11, 21, 18, tzinfo=timezone.utc)


def test_turns_without_response_json(log: Path) -> None:
    """Without that column the turns are requests without a record."""
    add(log, [turn()])
    with closing(sqlite3.connect(log)) as database:
        database.execute("alter table turns drop column response_json")
    routes, unreadable = read(log)
    assert list(routes) == [PLAIN]
    assert unreadable == 0


def test_other_models(log: Path) -> None:
    """Other models are counted in both tables, unknown ones too."""
    other = turn(input=10, output=1) | {"model": "gpt-4o"}
    add(log, [turn(), other, other | {"id": "2"}, other | {"id": "3", "model": None}])
    add(log, [other | {"input_tokens": None}], table="responses")
    with log_database.reading(log) as database:
        assert others(database) == [
            OtherModel("gpt-4o", 2, 20, 2),
            OtherModel("unknown", 1, 10, 1),
            OtherModel("gpt-4o", 1, 0, 1),
        ]
        assert others(database, Period(until=END)) == []


def test_reading_changes_nothing(log: Path) -> None:
    """Reading writes neither to the log nor beside it."""
    add(log, [turn()])
    before, files = log.read_bytes(), sorted(log.parent.iterdir())
    read(log)
    assert log.read_bytes() == before
    assert sorted(log.parent.iterdir()) == files


def test_a_log_in_write_ahead_mode(log: Path) -> None:
    """A log in write-ahead mode is read while another process writes to it."""
    with closing(sqlite3.connect(log)) as other:
        other.execute("pragma journal_mode = wal")
        add(log, [turn()])
        other.execute("delete from turns")
        routes, _ = read(log)
    assert len(routes[PLAIN]) == 1


def test_another_database(logs: Path) -> None:
    """A database without llm's tables has no requests."""
    with closing(sqlite3.connect(logs)) as database:
        database.execute("create table cats (name text)")
    with log_database.reading(logs) as database:
        assert not log_database.has_requests(database)
        assert read_open(database) == ({}, 0)


def test_json_of_any_layout(log: Path) -> None:
    """Spaces and order in the JSON of a record don't matter."""
    row = turn(cached_from="x")
    compact = json.dumps(json.loads(row["response_json"]), separators=(",", ":"), sort_keys=True)
    add(log, [row, turn() | {"response_json": compact}])
    routes, _ = read(log)
    assert [len(requests) for requests in routes.values()] == [2]


def test_rules_are_a_group(log: Path) -> None:
    """Requests are grouped by the rules that had a say; the others are one group."""
    named: list[tuple[str, ...]] = [(), ("easy",), ("easy", "rule 2"), ("easy",)]
    add(
        log,
        [
            turn() | {"response_json": json.dumps(Record(rules=rules).to_json(None))}
            for rules in named
        ],
    )
    routes, _ = read(log, by="rule")
    groups = {route.key: len(requests) for route, requests in routes.items()}
    assert groups == {None: 1, "easy": 2, "easy, rule 2": 1}
