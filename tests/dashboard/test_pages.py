"""The pages: what they show, to whom, and how they handle unusual or damaged logs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.ledger import Entry, Ledger
from llm_tiered.dashboard.amounts import money
from llm_tiered.log.record import Record, Rollout, Switch
from llm_tiered.paths import ledger_path
from tests.cli.commands import configure, run_json
from tests.costs.test_requests import older_log
from tests.dashboard.conftest import ANSWER, FLASH, HOUR, NOW, PROMPT
from tests.dashboard.texts import add_texts
from tests.make_log import MODELS, add, attempt, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.dashboard.browsing import Site

ALL = "/logs/-/tiered?since="


def change(log: Path, statement: str, *values: Any) -> None:
    """Execute a statement on the log."""
    with closing(sqlite3.connect(log)) as database, database:
        database.execute(statement, values)


# Content


async def test_link_in_the_menu(filled: Path, browse: Callable[..., Site]) -> None:
    """The menu of the database has a link to the overview."""
    page = await browse(filled).page("/logs")
    assert page.links["Requests to tiered"] == "/logs/-/tiered"


async def test_overview(filled: Path, browse: Callable[..., Site]) -> None:
    """Each chart has a table with its figures."""
    page = await browse(filled).page()
    assert page.status == 200
    assert page.tables["tiers"] == [
        [
            *("tier", "requests", "share", "on this machine", "in the cloud", "from the cache"),
            *("spent", "saved"),
        ],
        ["medium", "3", "75.0%", "1", "1", "1", "$0.00055", "$0.0011"],
        ["cloud", "1", "25.0%", "0", "1", "0", "$0.00055", "$0"],
    ]
    assert [row[:2] for row in page.tables["tasks"][1:]] == [
        ["(none)", "3"],
        ["theory_analysis", "1"],
    ]
    assert page.tables["fallbacks"][1:] == [["no room", "1", "25.0%"]]
    assert page.tables["latency"][1][:4] == ["medium", "3", "2.00 s", "2.00 s"]
    assert sum(int(row[4]) for row in page.tables["days"][1:]) == 1


async def test_answers_of_other_machines(log: Path, browse: Callable[..., Site]) -> None:
    """They have a name, a column and a number of their own as soon as there are any."""
    add(log, [turn(NOW), turn(NOW, model="tiered/big", tier="big", more={"place": "own"})])
    page = await browse(log).page()
    assert page.tables["tiers"][0][3:5] == ["on this machine", "on other machines of yours"]
    assert sorted(row[3:5] for row in page.tables["tiers"][1:]) == [["0", "1"], ["1", "0"]]
    assert "1 on other machines of yours, 0 in the cloud" in page.text
    assert "50.0% answered on this machine" in page.text


async def test_what_is_in_no_log(filled: Path, browse: Callable[..., Site]) -> None:
    """What attempts cost that are in no log is shown beside what was spent, if there was any."""
    assert "in no log" not in (await browse(filled).page()).text
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("a", 1, NOW, "gemini/gemini-2.5-flash", Decimal("0.25"))])
    assert "and in no log: $0.25" in (await browse(filled).page()).text


async def test_figures_of_the_command(log: Path, browse: Callable[..., Site]) -> None:
    """The figures of the charts are those of `llm tiered savings --json`."""
    make_log(log, 400, end=NOW)
    configure(electricity={"price_per_kwh": 0.3, "watts": 40})
    since, until = (f"{(NOW - timedelta(days=age)).date()}" for age in (200, 20))
    page = await browse(log).page(f"/logs/-/tiered?since={since}&until={until}")
    for by, figure in (("day", "days"), ("tier", "tiers"), ("task", "tasks")):
        report = run_json("savings", "--since", since, "--until", until, "--by", by)
        shown = {row[0]: int(row[1]) for row in page.tables[figure][1:]}
        expected = {group["key"] or "(none)": group["requests"] for group in report["groups"]}
        assert shown == expected
    for group, row in zip(report["groups"], page.tables["tasks"][1:], strict=True):
        assert row[-2:] == [money(group["spent"]), money(group["saved"])]
        assert Decimal(group["spent"]["dollars"]) > 0
    reasons = {row[0]: int(row[1]) for row in page.tables["fallbacks"][1:]}
    assert reasons == {each["reason"]: each["requests"] for each in report["fallbacks"]}


async def test_the_latest_requests(filled: Path, browse: Callable[..., Site]) -> None:
    """The latest requests come first, each with working links to its page and its row."""
    site = browse(filled)
    page = await site.page()
    [newest, *_, oldest] = page.tables["tiered-latest"][1:]
    assert newest[1:5] == [PROMPT, "medium", "", "cache"]
    assert oldest[1:5] == [PROMPT, "medium", "theory_analysis", MODELS["medium"]]
    rows = [link for name, link in page.links.items() if name.startswith("row of")]
    assert rows == [f"/logs/turns/{id_}" for id_ in ("4-again", "3-fell", "2-cloud", "1-here")]
    requests = [link for link in page.links.values() if link.startswith("/logs/-/tiered/")]
    assert requests == [
        f"/logs/-/tiered/{id_}" for id_ in ("4-again", "3-fell", "2-cloud", "1-here")
    ]
    for link in rows + requests:
        assert (await site.page(link)).status == 200


async def test_a_request(filled: Path, browse: Callable[..., Site]) -> None:
    """The page of a request has its prompt, answer, decision and attempts."""
    page = await browse(filled).page("/logs/-/tiered/3-fell")
    for text in (PROMPT, ANSWER, "Tier medium, complexity 5", "$0.00055", "1,000 in, 100 out"):
        assert text in page.text
    [_, *attempts] = page.tables[""]
    assert attempts == [
        ["medium", MODELS["medium"], "failed", "no room", "12"],
        ["cloud", FLASH, "ok", "", "12"],
    ]


async def test_reason_of_the_decision(log: Path, browse: Callable[..., Site]) -> None:
    """The page of a request says why its tier was chosen, and whether a rollout included it."""
    rollout = Rollout("new tier", 0.25, included=False)
    records = {
        "one": Record(tier="medium", complexity=6, source="estimate"),
        "two": Record(tier="medium", complexity=6, task="sums", source="task", rollout=rollout),
        "three": Record(tier="small", complexity=2, source="rule", rules=("easy", "secrets")),
        "four": Record(
            tier="cloud",
            source="conversation",
            stuck="3 of the last 6 tool calls failed",
            switch=Switch("medium", "cloud", 1_200, 0.0012),
        ),
    }
    for id_, record in records.items():
        response_json = json.dumps(record.to_json(None))
        add(log, [turn(NOW, id=id_) | {"response_json": response_json}])
    site = browse(log)
    one, two, three, four = [(await site.page(f"/logs/-/tiered/{id_}")).text for id_ in records]
    assert "Tier medium, complexity 6: estimated from the prompt." in one
    assert "rolled out" not in one
    assert "Rules" not in one
    assert "Tier small, complexity 2: a rule of the config decided." in three
    assert "Rules: easy, secrets." in three
    assert "Tier medium, complexity 6, task sums: the complexity was set by the task." in two
    assert "stuck in a tool loop: 3 of the last 6 tool calls failed." in four
    assert "went from medium to cloud, whose model had to read 1,200 tokens again" in four
    assert "(cost: $0.0012)" in four
    assert "new tier is rolled out to 25.0% of its requests, and this is not one of them." in two


async def test_cached_answer(filled: Path, browse: Callable[..., Site]) -> None:
    """An answer from the cache links to the request whose answer it repeats."""
    page = await browse(filled).page("/logs/-/tiered/4-again")
    assert page.links["an earlier request"] == "/logs/-/tiered/1-here"
    assert "from the cache" in page.text


async def test_ids_of_any_kind(log: Path, browse: Callable[..., Site]) -> None:
    """The id of a request may have characters with a meaning in URLs."""
    add(log, [turn(NOW, id="a/b.c?d e")])
    site = browse(log)
    links = (await site.page()).links.values()
    [link] = [link for link in links if link.startswith("/logs/-/tiered/")]
    assert (await site.page(link)).status == 200


async def test_without_requests(log: Path, browse: Callable[..., Site]) -> None:
    """For an empty log, the overview shows the command that makes the first request."""
    page = await browse(log).page()
    assert page.status == 200
    assert "This log has no requests to tiered yet" in page.text
    assert "<svg role" not in page.html


async def test_without_requests_in_the_period(log: Path, browse: Callable[..., Site]) -> None:
    """If only the period has no requests, there is a link to all of them."""
    add(log, [turn(NOW - timedelta(days=100))])
    page = await browse(log).page()
    assert "No requests to tiered in this period" in page.text
    assert page.links["Show all requests"] == ALL
    assert "1" in (await browse(log).page(ALL)).tables["days"][1]


async def test_other_models(filled: Path, browse: Callable[..., Site]) -> None:
    """Requests to other models are not counted, and the overview says so."""
    add(filled, [turn(NOW) | {"model": "gpt-4o"}])
    assert "they went directly to other models: 1 to gpt-4o." in (await browse(filled).page()).text


# Periods


@pytest.mark.parametrize(
    ("query", "requests"),
    [("since=35h", 3), ("since=35h&until=15h", 2), ("since=&until=15h", 3), ("", 4)],
)
async def test_a_period(
    filled: Path, browse: Callable[..., Site], query: str, requests: int
) -> None:
    """Periods are written as for the command."""
    page = await browse(filled).page(f"/logs/-/tiered?{query}")
    assert sum(int(row[1]) for row in page.tables["tiers"][1:]) == requests
    assert len(page.tables["tiered-latest"]) == requests + 1


async def test_command_with_the_same_figures(filled: Path, browse: Callable[..., Site]) -> None:
    """The command with the same figures is shown as it has to be typed."""
    page = await browse(filled).page("/logs/-/tiered?since=2000-01-01+15:00&until=15h")
    command = "llm tiered savings --since '2000-01-01 15:00' --until 15h --by day"
    assert command in page.text


@pytest.mark.parametrize("query", ["since=soon", "since=today&until=yesterday", "since=9999999d"])
async def test_invalid_time(filled: Path, browse: Callable[..., Site], query: str) -> None:
    """An invalid time is an error, with the form to correct it."""
    page = await browse(filled).page(f"/logs/-/tiered?{query}")
    assert page.status == 400
    assert 'role="alert"' in page.html
    assert 'id="tiered-since"' in page.html
    assert "for example" in page.text or "is not before" in page.text


async def test_new_requests(filled: Path, browse: Callable[..., Site]) -> None:
    """The overview includes requests that were logged after it was last opened."""
    site = browse(filled)
    assert len((await site.page()).tables["tiered-latest"]) == 5
    add(filled, [turn(NOW, id="new")])
    page = await site.page()
    assert len(page.tables["tiered-latest"]) == 6
    assert sum(int(row[1]) for row in page.tables["tiers"][1:]) == 5


# Other databases, and permissions


async def test_other_databases(tmp_path: Path, browse: Callable[..., Site]) -> None:
    """A database that is not a log has no pages, even if its tables have the same names."""
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("create table responses (id integer primary key, model text)")
        database.execute("create table turns (id integer primary key, model text)")
    site = browse(other)
    page = await site.page("/other")
    assert page.status == 200
    assert "tiered" not in page.html
    for path in ("/other/-/tiered", "/other/-/tiered/1", "/nothing/-/tiered"):
        assert (await site.page(path)).status == 404


@pytest.mark.parametrize(
    "rule",
    [
        {"allow": {"id": "root"}},
        {"tables": {"turns": {"allow": {"id": "root"}}}},
        {"tables": {"parts": {"allow": {"id": "root"}}}},
    ],
    ids=["database", "turns", "parts"],
)
async def test_permissions(filled: Path, browse: Callable[..., Site], rule: dict[str, Any]) -> None:
    """Without permission for the database or a table that is shown, there are no pages or links."""
    site = browse(filled, rules={"logs": rule})
    for path in ("/logs/-/tiered", "/logs/-/tiered/1-here", "/logs/-/tiered/nothing"):
        assert (await site.page(path)).status == 403
        assert PROMPT not in (await site.page(path)).html
    assert "Requests to tiered" not in (await site.page("/logs")).links
    page = await site.page("/logs/-/tiered", "root")
    assert page.status == 200
    assert "Requests to tiered" in (await site.page("/logs", "root")).links


async def test_permission_to_run_sql(filled: Path, browse: Callable[..., Site]) -> None:
    """Without permission to run SQL, there are no links to queries, and they can't be run."""
    site = browse(filled, rules={"logs": {"allow_sql": {"id": "root"}}})
    page = await site.page()
    assert page.status == 200
    assert not any("tiered_money" in link for link in page.links.values())
    assert (await site.page("/logs/tiered_money?since=&until=")).status in (403, 404)
    root = await site.page("/logs/-/tiered", "root")
    assert (await site.page(root.links["SQL query: saved and spent"], "root")).status == 200


# Unusual and damaged logs


HOSTILE = "<script>alert(1)</script>' or 1=1; drop table turns; --\x00\x1b[31m\u202egnp.exe"


async def test_escaping(log: Path, browse: Callable[..., Site]) -> None:
    """HTML, SQL and control characters are shown as text everywhere."""
    attempts = [attempt(HOSTILE, HOSTILE, HOSTILE), attempt("cloud", HOSTILE)]
    row = turn(NOW, id="bad", model=HOSTILE, tier=HOSTILE, task=HOSTILE, attempts=attempts)
    add(log, [row | {"options_json": json.dumps({"task": HOSTILE})}])
    add_texts(log, {"bad": (HOSTILE, HOSTILE)})
    site = browse(log)
    for path in (ALL, "/logs/-/tiered/bad"):
        page = await site.page(path)
        assert page.status == 200
        assert "<script>alert" not in page.html
        assert not set(page.html) & set("\x00\x1b\u202e")
        assert "<script>alert(1)</script>' or 1=1" in page.text
    assert "drop table turns; --[U+0000][U+001B][31m[U+202E]gnp.exe" in page.text


@pytest.mark.parametrize(
    "response_json",
    [
        *("{", "[]", "null", "7", '"text"', "{}", '{"tiered": []}', '{"tiered": {}}'),
        *('{"tiered": {"attempts": [1], "tier": 3}}', '{"tiered": {"attempts": {"a": 1}}}'),
        "[" * 2000,
    ],
    ids=lambda text: text[:20],
)
async def test_a_damaged_record(log: Path, browse: Callable[..., Site], response_json: str) -> None:
    """A row with a damaged record is shown on both pages, as far as it can be read."""
    add(log, [turn(NOW, id="bad") | {"response_json": response_json}, turn(NOW, id="good")])
    add_texts(log, {"bad": (PROMPT, ANSWER)})
    site = browse(log)
    page = await site.page()
    assert page.status == 200
    assert len(page.tables["tiered-latest"]) == 3
    one = await site.page("/logs/-/tiered/bad")
    assert one.status == 200
    assert PROMPT in one.text
    assert "Note: the record of how this request was routed is damaged." in one.text


async def test_damaged_rows(log: Path, browse: Callable[..., Site]) -> None:
    """Damaged rows, and requests dated in the future, are counted and mentioned."""
    bad = turn(NOW, id="bad") | {"datetime_utc": "yesterday", "input_tokens": "many"}
    add(log, [turn(NOW), turn(NOW + 48 * HOUR), bad | {"duration_ms": "long", "resolved_model": 7}])
    site = browse(log)
    page = await site.page()
    assert "Not counted, because their rows are damaged: 1." in page.text
    assert "Counted, though dated in the future: 1." in page.text
    one = await site.page("/logs/-/tiered/bad")
    assert one.status == 200
    assert "invalid time: yesterday" in one.text


async def test_invalid_utf8(log: Path, browse: Callable[..., Site]) -> None:
    """Bytes that are not UTF-8 are shown as replacement characters."""
    add(log, [turn(NOW - HOUR), turn(NOW, id="bad")])
    add_texts(log, {"bad": (PROMPT, ANSWER)})
    change(log, "update turns set response_json = cast(x'ff7b' as text) where id = 'bad'")
    change(log, "update turn_search set prompt = cast(x'ff41' as text)")
    page = await browse(log).page()
    assert page.status == 200
    assert page.tables["tiered-latest"][1][1] == "\ufffdA"


@pytest.mark.parametrize("last", ["m016_fragments_table_pks", "m020_tool_results_attachments"])
async def test_the_log_of_an_older_llm(logs: Path, browse: Callable[..., Site], last: str) -> None:
    """A log that has only the tables of an older llm is shown too."""
    older_log(logs, last)
    change(logs, "create table _llm_migrations (name text primary key, applied_at text)")
    site = browse(logs)
    assert "This log has no requests to tiered yet" in (await site.page()).text
    with closing(sqlite3.connect(logs)) as database:
        columns = {name for _, name, *_ in database.execute("pragma table_info(responses)")}
    row = turn(NOW, id="old") | {"prompt": PROMPT, "response": ANSWER, "system": "Be brief."}
    add(logs, [{name: row[name] for name in row if name in columns}], table="responses")
    page = await site.page()
    assert page.tables["tiered-latest"][1][1] == PROMPT
    one = await site.page("/logs/-/tiered/old")
    assert ANSWER in one.text
    assert "Be brief." in one.text


async def test_no_such_request(filled: Path, browse: Callable[..., Site]) -> None:
    """An id that is not in the log is an error."""
    page = await browse(filled).page("/logs/-/tiered/~3Cb~3E")
    assert page.status == 404
    assert "there is no request to tiered with the id <b>" in page.text


async def test_invalid_config(filled: Path, browse: Callable[..., Site]) -> None:
    """With a mistake in the config, all is shown that does not depend on it, and the mistake."""
    (filled.parent / "tiered" / "config.yaml").write_text("tiers: [")
    page = await browse(filled).page()
    assert page.status == 200
    assert "What the cloud would have cost is unknown" in page.text
    assert page.tables["tiers"][1][-1] == "unknown"
