"""The pages: what they show, to whom, and what they do with a log that is not as it should be."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.dashboard.numbers import money
from tests.cli.commands import configure, run_json
from tests.costs.test_requests import older_log
from tests.dashboard.conftest import ANSWERED, ASKED, FLASH, HOUR, NOW
from tests.dashboard.texts import add_texts
from tests.make_log import MODELS, add, attempt, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.dashboard.browsing import Site

ALL = "/logs/-/tiered?since="


def change(log: Path, statement: str, *values: Any) -> None:
    """Change the log."""
    with closing(sqlite3.connect(log)) as database, database:
        database.execute(statement, values)


# What they show


async def test_the_menu_of_the_log_has_a_link(filled: Path, browse: Callable[..., Site]) -> None:
    """The page is linked from the menu of the database."""
    page = await browse(filled).page("/logs")
    assert page.links["Requests to tiered"] == "/logs/-/tiered"


async def test_the_page_tells_what_happened(filled: Path, browse: Callable[..., Site]) -> None:
    """Each chart has its figures beside it as a table."""
    page = await browse(filled).page()
    assert page.status == 200
    assert page.tables["tiers"] == [
        [
            *("tier", "requests", "share", "answered here", "in the cloud", "by the cache"),
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


async def test_figures_are_those_of_the_command(log: Path, browse: Callable[..., Site]) -> None:
    """What the charts are drawn from is what `llm tiered savings --json` prints."""
    make_log(log, 400, end=NOW)
    configure(electricity={"price_per_kwh": 0.3, "watts": 40})
    since, until = (f"{(NOW - timedelta(days=age)).date()}" for age in (200, 20))
    page = await browse(log).page(f"/logs/-/tiered?since={since}&until={until}")
    for by, figure in (("day", "days"), ("tier", "tiers"), ("task", "tasks")):
        report = run_json("savings", "--since", since, "--until", until, "--by", by)
        shown = {row[0]: int(row[1]) for row in page.tables[figure][1:]}
        told = {group["key"] or "(none)": group["requests"] for group in report["groups"]}
        assert shown == told
    for group, row in zip(report["groups"], page.tables["tasks"][1:], strict=True):
        assert row[-2:] == [money(group["spent"]), money(group["saved"])]
        assert Decimal(group["spent"]["dollars"]) > 0
    reasons = {row[0]: int(row[1]) for row in page.tables["fallbacks"][1:]}
    assert reasons == {one["reason"]: one["requests"] for one in report["fallbacks"]}


async def test_the_latest_requests(filled: Path, browse: Callable[..., Site]) -> None:
    """The latest stand first, each with links to its page and its row, and those lead there."""
    site = browse(filled)
    page = await site.page()
    [newest, *_, oldest] = page.tables["tiered-latest"][1:]
    assert newest[1:5] == [ASKED, "medium", "", "cache"]
    assert oldest[1:5] == [ASKED, "medium", "theory_analysis", MODELS["medium"]]
    rows = [link for name, link in page.links.items() if name.startswith("row of")]
    assert rows == [f"/logs/turns/{id_}" for id_ in ("4-again", "3-fell", "2-cloud", "1-here")]
    requests = [link for link in page.links.values() if link.startswith("/logs/-/tiered/")]
    assert requests == [
        f"/logs/-/tiered/{id_}" for id_ in ("4-again", "3-fell", "2-cloud", "1-here")
    ]
    for link in rows + requests:
        assert (await site.page(link)).status == 200


async def test_a_request(filled: Path, browse: Callable[..., Site]) -> None:
    """The page of a request has prompt, answer, decision and attempts."""
    page = await browse(filled).page("/logs/-/tiered/3-fell")
    for text in (ASKED, ANSWERED, "Tier medium, complexity 5", "$0.00055", "1,000 in, 100 out"):
        assert text in page.text
    [_, *attempts] = page.tables[""]
    assert attempts == [
        ["medium", MODELS["medium"], "failed", "no room", "12"],
        ["cloud", FLASH, "ok", "", "12"],
    ]


async def test_an_answer_of_the_cache_leads_to_its_source(
    filled: Path, browse: Callable[..., Site]
) -> None:
    """A request that was answered before links to the one that was answered."""
    page = await browse(filled).page("/logs/-/tiered/4-again")
    assert page.links["an earlier request"] == "/logs/-/tiered/1-here"
    assert "out of the cache" in page.text


async def test_ids_of_any_kind(log: Path, browse: Callable[..., Site]) -> None:
    """The id of a request can have letters that mean something in an address."""
    add(log, [turn(NOW, id="a/b.c?d e")])
    site = browse(log)
    links = (await site.page()).links.values()
    [link] = [link for link in links if link.startswith("/logs/-/tiered/")]
    assert (await site.page(link)).status == 200


async def test_without_requests(log: Path, browse: Callable[..., Site]) -> None:
    """An empty log is told as such, with the command that makes the first request."""
    page = await browse(log).page()
    assert page.status == 200
    assert "This log has no request to tiered yet" in page.text
    assert "<svg role" not in page.html


async def test_without_requests_in_this_time(log: Path, browse: Callable[..., Site]) -> None:
    """Where only the time has no requests, a link leads to those of any time."""
    add(log, [turn(NOW - timedelta(days=100))])
    page = await browse(log).page()
    assert "No requests to tiered in this time" in page.text
    assert page.links["Show all of them"] == ALL
    assert "1" in (await browse(log).page(ALL)).tables["days"][1]


async def test_other_models_are_told(filled: Path, browse: Callable[..., Site]) -> None:
    """What other models were asked is not counted, and said."""
    add(filled, [turn(NOW) | {"model": "gpt-4o"}])
    assert "other models were asked directly: 1 of gpt-4o." in (await browse(filled).page()).text


# Times


@pytest.mark.parametrize(
    ("asked", "requests"),
    [("since=35h", 3), ("since=35h&until=15h", 2), ("since=&until=15h", 3), ("", 4)],
)
async def test_a_period(
    filled: Path, browse: Callable[..., Site], asked: str, requests: int
) -> None:
    """The words for a time are those of the command."""
    page = await browse(filled).page(f"/logs/-/tiered?{asked}")
    assert sum(int(row[1]) for row in page.tables["tiers"][1:]) == requests
    assert len(page.tables["tiered-latest"]) == requests + 1


async def test_the_command_for_the_same(filled: Path, browse: Callable[..., Site]) -> None:
    """The command that gives the same figures can be typed as it is shown."""
    page = await browse(filled).page("/logs/-/tiered?since=2000-01-01+15:00&until=15h")
    command = "llm tiered savings --since '2000-01-01 15:00' --until 15h --by day"
    assert command in page.text


@pytest.mark.parametrize("asked", ["since=soon", "since=today&until=yesterday", "since=9999999d"])
async def test_no_time(filled: Path, browse: Callable[..., Site], asked: str) -> None:
    """What is no time is told, and the form is there to mend it."""
    page = await browse(filled).page(f"/logs/-/tiered?{asked}")
    assert page.status == 400
    assert 'role="alert"' in page.html
    assert 'id="tiered-since"' in page.html
    assert "for example" in page.text or "is not before" in page.text


async def test_new_requests_are_seen(filled: Path, browse: Callable[..., Site]) -> None:
    """The page of a log to which something was added is another one."""
    site = browse(filled)
    assert len((await site.page()).tables["tiered-latest"]) == 5
    add(filled, [turn(NOW, id="new")])
    page = await site.page()
    assert len(page.tables["tiered-latest"]) == 6
    assert sum(int(row[1]) for row in page.tables["tiers"][1:]) == 5


# Databases that are not llm's log, and those who may not see it


async def test_other_databases_are_left_alone(tmp_path: Path, browse: Callable[..., Site]) -> None:
    """A database that is no log has no page, no link and no query, even with tables named alike."""
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
    """Who may not see the database, or a table that the pages show, sees neither page nor link."""
    site = browse(filled, rules={"logs": rule})
    for path in ("/logs/-/tiered", "/logs/-/tiered/1-here", "/logs/-/tiered/nothing"):
        assert (await site.page(path)).status == 403
        assert ASKED not in (await site.page(path)).html
    assert "Requests to tiered" not in (await site.page("/logs")).links
    page = await site.page("/logs/-/tiered", "root")
    assert page.status == 200
    assert "Requests to tiered" in (await site.page("/logs", "root")).links


async def test_queries_are_for_those_who_may_run_sql(
    filled: Path, browse: Callable[..., Site]
) -> None:
    """Who may not run SQL sees the page without the links to queries, and can't run them."""
    site = browse(filled, rules={"logs": {"allow_sql": {"id": "root"}}})
    page = await site.page()
    assert page.status == 200
    assert not any("tiered_money" in link for link in page.links.values())
    assert (await site.page("/logs/tiered_money?since=&until=")).status in (403, 404)
    root = await site.page("/logs/-/tiered", "root")
    assert (await site.page(root.links["SQL query: saved and spent"], "root")).status == 200


# Logs that are not as they should be


HOSTILE = "<script>alert(1)</script>' or 1=1; drop table turns; --\x00\x1b[31m\u202egnp.exe"


async def test_prompts_are_shown_as_text(log: Path, browse: Callable[..., Site]) -> None:
    """HTML, SQL and control characters are text, wherever they stand."""
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
    """A row with a damaged record has both pages; what can be read is shown."""
    add(log, [turn(NOW, id="bad") | {"response_json": response_json}, turn(NOW, id="good")])
    add_texts(log, {"bad": (ASKED, ANSWERED)})
    site = browse(log)
    page = await site.page()
    assert page.status == 200
    assert len(page.tables["tiered-latest"]) == 3
    one = await site.page("/logs/-/tiered/bad")
    assert one.status == 200
    assert ASKED in one.text


async def test_damaged_rows_are_told(log: Path, browse: Callable[..., Site]) -> None:
    """Rows that can't be understood are counted apart, and those of the future too."""
    bad = turn(NOW, id="bad") | {"datetime_utc": "yesterday", "input_tokens": "many"}
    add(log, [turn(NOW), turn(NOW + 48 * HOUR), bad | {"duration_ms": "long", "resolved_model": 7}])
    site = browse(log)
    page = await site.page()
    assert "Not counted, because the row is damaged: 1." in page.text
    assert "Counted, though dated in the future: 1." in page.text
    one = await site.page("/logs/-/tiered/bad")
    assert one.status == 200
    assert "no time: yesterday" in one.text


async def test_text_that_is_no_text(log: Path, browse: Callable[..., Site]) -> None:
    """A row whose bytes are no UTF-8 is shown with signs in their place."""
    add(log, [turn(NOW - HOUR), turn(NOW, id="bad")])
    add_texts(log, {"bad": (ASKED, ANSWERED)})
    change(log, "update turns set response_json = cast(x'ff7b' as text) where id = 'bad'")
    change(log, "update turn_search set prompt = cast(x'ff41' as text)")
    page = await browse(log).page()
    assert page.status == 200
    assert page.tables["tiered-latest"][1][1] == "\ufffdA"


@pytest.mark.parametrize("last", ["m016_fragments_table_pks", "m020_tool_results_attachments"])
async def test_the_log_of_an_older_llm(logs: Path, browse: Callable[..., Site], last: str) -> None:
    """A log with the old tables only has a page, which shows what is there."""
    older_log(logs, last)
    change(logs, "create table _llm_migrations (name text primary key, applied_at text)")
    site = browse(logs)
    assert "This log has no request to tiered yet" in (await site.page()).text
    with closing(sqlite3.connect(logs)) as database:
        there = {name for _, name, *_ in database.execute("pragma table_info(responses)")}
    row = turn(NOW, id="old") | {"prompt": ASKED, "response": ANSWERED, "system": "Be brief."}
    add(logs, [{name: row[name] for name in row if name in there}], table="responses")
    page = await site.page()
    assert page.tables["tiered-latest"][1][1] == ASKED
    one = await site.page("/logs/-/tiered/old")
    assert ANSWERED in one.text
    assert "Be brief." in one.text


async def test_no_such_request(filled: Path, browse: Callable[..., Site]) -> None:
    """A request that is not there is told, in words."""
    page = await browse(filled).page("/logs/-/tiered/~3Cb~3E")
    assert page.status == 404
    assert "no request to tiered has the id <b>" in page.text


async def test_a_broken_config(
    filled: Path, browse: Callable[..., Site], config_file_text: None
) -> None:
    """With a mistake in the config the rest is shown, and what is unknown for it is said."""
    page = await browse(filled).page()
    assert page.status == 200
    assert "What the cloud would have cost is unknown" in page.text
    assert page.tables["tiers"][1][-1] == "unknown"


@pytest.fixture
def config_file_text(filled: Path) -> None:
    """Break the config."""
    (filled.parent / "tiered" / "config.yaml").write_text("tiers: [")
