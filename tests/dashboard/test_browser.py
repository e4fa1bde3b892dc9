"""The pages in Chromium, driven by Playwright."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import sync_playwright

from tests.cli.commands import run
from tests.dashboard.serving import DATASETTE, free_port, serving
from tests.dashboard.texts import add_texts
from tests.make_log import CLOUD, MODELS, add, attempt, empty_log, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

# The system's browser; without one, that of Playwright.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")

WIDE, MIDDLE, NARROW = (1280, 900), (1024, 768), (390, 844)
PROMPT = "<b>Is this bold?</b>"
LONG = "/home/" + "a_folder_with_a_long_name/" * 20
LONG_RULES = f"[{{words: {LONG}, tier: cloud}}]"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a log with data, an empty one, a large one, and one with long words."""
    home = tmp_path_factory.mktemp("site")
    end = datetime.now(timezone.utc) - timedelta(minutes=5)
    names = ("some", "none", "many", "long", "places")
    some, none, many, long, places = (home / f"{name}.db" for name in names)
    make_log(some, 300, end=end)
    with closing(sqlite3.connect(some)) as database:
        last = "select id from turns where model = 'tiered' order by id desc limit 30"
        add_texts(some, {id_: (PROMPT, "No.") for (id_,) in database.execute(last).fetchall()})
    empty_log(none)
    make_log(many, 1_000, end=end)
    _repeat(many, 100)
    empty_log(long)
    failed = [attempt("medium", MODELS["medium"], LONG), attempt("cloud", CLOUD)]
    add(long, [turn(end, id="1", model=CLOUD, task="progression_generation", attempts=failed)])
    add_texts(long, {"1": (LONG, LONG)})
    empty_log(places)
    where = [{"place": "here"}, {"place": "own"}, {"place": "cloud"}]
    add(places, [*(turn(end, tier=more["place"], more=more) for more in where)])
    add(places, [turn(end, id="0", tier="again", cached_from="1")])
    logs_path = home / "logs.db"
    shutil.copy(some, logs_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_USER_PATH", str(home))
        run("replay", "--set", "tiers.medium.complexity=4-8", "--set", f"rules={LONG_RULES}")
    logs = map(str, (some, none, many, long, places, logs_path))
    command = [*DATASETTE, "serve", *logs, "--port", str(free_port())]
    with serving(home, *command) as address:
        yield address


def _repeat(log: Path, times: int) -> None:
    """Repeat each turn of the log, which is much faster than generating as many."""
    with closing(sqlite3.connect(log)) as database, database:
        id_, *columns = (name for _, name, *_ in database.execute("pragma table_info(turns)"))
        rest = ", ".join(columns)
        (turns,) = database.execute("select max(rowid) from turns").fetchone()
        for copy in range(1, times):
            database.execute(
                f"insert into turns ({id_}, {rest}) "
                f"select {id_} || '-{copy}', {rest} from turns where rowid <= {turns}"
            )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    with sync_playwright() as playwright:
        if not CHROMIUM and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium is installed (playwright install chromium)")
        # Its sandbox does not work for root, the user in containers.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(site: str, browser: Browser) -> Iterator[BrowserContext]:
    """Open a window."""
    window = browser.new_context(base_url=site, color_scheme="light")
    yield window
    window.close()


@pytest.fixture
def page(window: BrowserContext, site: str) -> Iterator[Page]:
    """Open a page, which must send requests only to the server and log no errors."""
    requests: list[str] = []
    errors: list[str] = []
    page = window.new_page()
    page.on("request", lambda each: requests.append(each.url))
    page.on("console", lambda each: errors.append(each.text) if each.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert [url for url in requests if not url.startswith(site)] == []
    assert errors == []
    page.close()


def misfits(page: Page, *sizes: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes of the window in which something is wider than it, or a table is cut off."""
    wide = "document.documentElement.scrollWidth > window.innerWidth"
    cut = "all => all.filter(each => each.scrollWidth > each.clientWidth).length"
    wrong = []
    for width, height in sizes:
        page.set_viewport_size({"width": width, "height": height})
        if page.evaluate(wide) or page.locator(".tiered-section").evaluate_all(cut):
            wrong.append((width, height))
    return wrong


@pytest.mark.parametrize("path", ["/some/-/tiered", "/none/-/tiered", "/many/-/tiered"])
def test_overview(page: Page, path: str) -> None:
    """The overview opens and fits into the window, with some, no and very many requests."""
    response = page.goto(path)
    assert response is not None
    assert response.status == 200
    assert page.get_by_role("heading", level=1).inner_text() == "Requests to tiered"
    charts = page.locator("section.content").get_by_role("img")
    assert charts.count() == (0 if path.startswith("/none") else 6)
    assert misfits(page, WIDE, MIDDLE, NARROW) == []


@pytest.mark.parametrize("path", ["/long/-/tiered", "/long/-/tiered/1"])
def test_long_words(page: Page, path: str) -> None:
    """Long words don't make a page wider than the window, and no table is cut off."""
    page.goto(path)
    assert misfits(page, WIDE, MIDDLE, NARROW) == []


def test_replays(page: Page) -> None:
    """The list and the report fit into the window, with long settings, too; links lead there."""
    page.goto("/logs/-/tiered-replays")
    assert misfits(page, WIDE, MIDDLE, NARROW) == []
    page.get_by_role("link", name="20").click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Replay of 20")
    assert misfits(page, WIDE, MIDDLE, NARROW) == []
    page.get_by_role("link", name="01").first.click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Request at ")


def brightness(page: Page, colour: str) -> int:
    """Return the sum of red, green and blue in a colour of the page's body."""
    text = page.evaluate(f"getComputedStyle(document.body).{colour}")
    return sum(map(int, re.findall(r"\d+", text)))


def test_colour_scheme(page: Page) -> None:
    """The page is dark in the dark colour scheme of the system, and light in the light one."""
    page.goto("/some/-/tiered")
    for dark in (False, True):
        page.emulate_media(color_scheme="dark" if dark else "light")
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
        lighter_text = brightness(page, "color") > brightness(page, "backgroundColor")
        assert lighter_text is dark
        assert misfits(page, WIDE, NARROW) == []


KINDS = ("here", "own", "cloud", "cache")


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_place_has_one_colour(
    page: Page, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    """Bars, the legend's squares and the dots of the requests have it, each place another one."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    page.goto("/places/-/tiered")
    colours = []
    for kind in KINDS:
        marks = [(f"#{chart} path.{kind}", "", "fill") for chart in ("days", "tiers")]
        marks.append((f"#tiers .tiered-legend .is-{kind}", "::before", "backgroundColor"))
        marks.append((f".tiered-latest tr.is-{kind} td.who", "::before", "backgroundColor"))
        [colour] = {colour for mark in marks for colour in shown_colours(page, *mark)}
        colours.append(colour)
    assert len(set(colours)) == len(KINDS)
    assert misfits(page, size) == []


def shown_colours(page: Page, selector: str, pseudo: str, name: str) -> list[str]:
    """Return the colours of the elements, of which there is at least one."""
    script = f"all => all.map(each => getComputedStyle(each, {pseudo!r}).{name})"
    colours: list[str] = page.locator(selector).evaluate_all(script)
    assert colours, selector
    return colours


def test_attempts_in_a_narrow_window(page: Page) -> None:
    """Each value has the name of its column beside it, and the times are there."""
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    page.goto("/long/-/tiered/1")
    script = """all => all.map(each =>
        getComputedStyle(each, "::before").content.replaceAll('"', "") + each.innerText)"""
    cells = page.locator(".tiered-stack tbody td:visible").evaluate_all(script)
    failed, answered = cells[:5], cells[5:]
    names = [cell.partition(":")[0] for cell in failed]
    assert names == ["tier", "model", "outcome", "reason", "ms"]
    assert [cell for cell in answered if cell != "none"] == [
        *("tier: cloud", f"model: {CLOUD}", "outcome: ok", "ms: 12"),
    ]


def test_charts_for_screen_readers(page: Page) -> None:
    """Each chart is an image with a name and a description that points to its table."""
    page.goto("/some/-/tiered")
    for name in ("Saved and spent", "Requests by tier", "Why requests fell back"):
        assert page.get_by_role("img", name=name).count() == 1
        assert page.get_by_role("link", name=f"SQL query: {name.lower()}").count() == 1
    descriptions = page.locator("svg desc").all_text_contents()
    assert all(text.endswith("The same figures are in the table below.") for text in descriptions)


def test_tables_by_keyboard(page: Page) -> None:
    """The table of a chart can be opened and scrolled with the keyboard."""
    page.goto("/some/-/tiered")
    summary = page.locator("#days summary")
    table = page.get_by_role("region", name="Requests by day")
    assert not table.is_visible()
    summary.focus()
    page.keyboard.press("Enter")
    assert table.is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    page.wait_for_function("document.activeElement.scrollTop > 0")


def test_links(page: Page) -> None:
    """Links lead from the database to the overview, a request, its row, and back."""
    page.goto("/some")
    page.locator("details.actions-menu-links summary").click()
    page.get_by_text("Requests to tiered").first.click()
    page.wait_for_url("**/some/-/tiered")
    page.locator(".tiered-latest a").first.click()
    page.wait_for_url("**/some/-/tiered/*")
    assert page.get_by_text(PROMPT).count() == 1
    assert misfits(page, WIDE) == []
    page.get_by_role("link", name="All requests to tiered").click()
    page.wait_for_url("**/some/-/tiered")
    page.locator(".tiered-latest a").first.click()
    page.get_by_role("link", name="Row").click()
    page.wait_for_url("**/some/turns/*")


def test_a_query(page: Page) -> None:
    """The query of a chart opens with rows, for the period of the chart."""
    page.goto("/some/-/tiered?since=60d")
    page.get_by_role("link", name="SQL query: saved and spent").click()
    page.wait_for_url("**/some/tiered_money?since=*")
    assert page.locator("table.rows-and-columns tbody tr").count() > 1


def test_period(page: Page) -> None:
    """A period can be typed, or chosen with one click."""
    page.goto("/some/-/tiered")
    page.get_by_label("since").fill("7d")
    page.keyboard.press("Enter")
    page.wait_for_url("**since=7d&until=")
    assert page.locator("[aria-current]").inner_text() == "7 days"
    page.get_by_role("link", name="1 year").click()
    page.wait_for_url("**since=365d")
    assert page.locator("[aria-current]").inner_text() == "1 year"
