"""The pages on replays."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from llm_tiered.log import feedback
from llm_tiered.paths import replays_path
from tests.cli.commands import run
from tests.dashboard.texts import add_texts
from tests.make_log import MODELS
from tests.replay.logs import EASY, HARD, add_request, said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.dashboard.browsing import Site

PAGES = "/logs/-/tiered-replays"
FLASH = "gemini/gemini-2.5-flash"


def replayed(log: Path, *settings: str) -> None:
    """Replay three requests, the first of which is marked."""
    if not replays_path().exists():
        add_request(log, "1-medium", EASY, **said("medium", 5))
        add_request(log, "2-medium", EASY, **said("medium", 7))
        add_request(log, "3-cloud", HARD, **said("cloud", 8), model=FLASH)
        add_texts(log, {"2-medium": (EASY, "So."), "3-cloud": (HARD, "So.")})
        feedback.set_mark("1-medium", "up")
    run("replay", *settings)


async def test_list(log: Path, browse: Callable[..., Site]) -> None:
    """It has the replays of this log, latest first, each with a link to its report."""
    replayed(log, "--set", "tiers.cloud.complexity=6-10")
    replayed(log)
    page = await browse(log).page(PAGES)
    assert page.status == 200
    [_, latest, first] = page.tables["tiered-replays"]
    assert latest[1:] == [
        *("your present settings", "2026-11-22 to 2026-11-22", "3", "0 (0.0%)"),
        *("$0.00055", "$0.00055"),
    ]
    assert first[1:5] == [
        *("--set tiers.cloud.complexity=6-10", "2026-11-22 to 2026-11-22", "3", "1 (33.3%)"),
    ]
    assert page.links[first[0]].startswith(PAGES)


async def test_report(log: Path, browse: Callable[..., Site]) -> None:
    """It has tiers, moves, quality, and examples with links to their requests."""
    replayed(log, "--set", f"tiers.small={{complexity: 1-5, model: {MODELS['small']}}}")
    page = await browse(log).page(f"{PAGES}/1")
    assert page.status == 200
    assert page.tables["tiered-tiers"][1:] == [
        ["small", "1-5", MODELS["small"], "0 (0.0%)", "1 (33.3%)", "$0", "$0"],
        ["medium", "6-7", MODELS["medium"], "2 (66.7%)", "1 (33.3%)", "$0", "$0"],
        ["cloud", "8-10", FLASH, "1 (33.3%)", "1 (33.3%)", "$0.00055", "$0.00055"],
    ]
    good = "100.0% of 1 (20.7% to 100.0%)"
    assert page.tables["tiered-moves"][1:] == [
        ["medium → small", "1", "$0", "$0", good, "not known"]
    ]
    assert page.tables["tiered-move-1"][1:] == [
        ["1-medium", "(no text)", "complexity 5, and small covers 1-5"]
    ]
    assert page.links["1-medium"] == "/logs/-/tiered/1-medium"


async def test_prompts_come_from_the_log(log: Path, browse: Callable[..., Site]) -> None:
    """A prompt is shown as long as the log has it."""
    replayed(log, "--set", "tiers.cloud.complexity=7-10")
    site = browse(log)
    page = await site.page(f"{PAGES}/1")
    assert page.tables["tiered-move-1"][1][:2] == ["2-medium", EASY]
    with closing(sqlite3.connect(log)) as database, database:
        database.execute("delete from turn_search")
    page = await site.page(f"{PAGES}/1")
    assert page.tables["tiered-move-1"][1][:2] == ["2-medium", "(no text)"]


async def test_without_replays(log: Path, browse: Callable[..., Site]) -> None:
    """It says how to make one; a report that is gone is not found, and what is damaged is told."""
    site = browse(log)
    page = await site.page(PAGES)
    assert "llm tiered replay --set" in page.text
    assert (await site.page(f"{PAGES}/7")).status == 404
    replays_path().write_bytes(b"nothing like a database")
    page = await site.page(PAGES)
    assert page.status == 503
    assert "the replays can't be read" in page.text


async def test_links(log: Path, browse: Callable[..., Site]) -> None:
    """The menu of the database and the overview link to the replays."""
    site = browse(log)
    assert (await site.page("/logs")).links["Replays"] == PAGES
    add_request(log, "1", **said("small", 2))
    assert (await site.page("/logs/-/tiered?since=")).links["replays"] == PAGES


async def test_who_may_see_them(log: Path, browse: Callable[..., Site]) -> None:
    """Only who may see the log may see its replays."""
    replayed(log)
    site = browse(log, rules={"logs": {"allow": {"id": "me"}}})
    assert (await site.response(PAGES)).status_code == 403
    assert (await site.response(f"{PAGES}/1")).status_code == 403
    assert (await site.response(f"{PAGES}/1", "me")).status_code == 200
