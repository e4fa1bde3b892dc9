"""`llm tiered savings`: output, charts and errors."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from llm_tiered.costs.ledger import Entry, Ledger
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.periods import Period, span
from llm_tiered.costs.savings import savings_report
from llm_tiered.paths import ledger_path, sums_folder
from tests.cli.commands import configure, refused, run, run_json, tier
from tests.make_log import CLOUD, END, MODELS, add, attempt, empty_log, turn

if TYPE_CHECKING:
    from pathlib import Path

FLASH = "gemini/gemini-2.5-flash"
NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log, and a config whose cloud model has a known price."""
    empty_log(logs)
    configure(tier("medium", "1-7", MODELS["medium"]), tier("cloud", "8-10", FLASH))
    return logs


@pytest.fixture
def ten_days(log: Path) -> Path:
    """A local request on each of ten days, the first five with a task, and a cloud request."""
    tasks = ["theory_analysis"] * 5 + [None] * 5
    rows = [turn(NOW - age * DAY, task=task) for age, task in enumerate(tasks)]
    failed = [attempt("medium", MODELS["medium"], "no room"), attempt("cloud", FLASH)]
    add(log, [*rows, turn(NOW - DAY, model=FLASH, tier="cloud", attempts=failed)])
    return log


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return re.split(r"\s{2,}", line.strip())


def test_text_output(ten_days: Path) -> None:
    """The summary has where requests were answered, their costs, savings and speed."""
    lines = run("savings").stdout.splitlines()
    first, last = (NOW - 9 * DAY).astimezone().date(), NOW.astimezone().date()
    assert lines[0] == f"11 requests to tiered, {first} to {last} (9.0 days)"
    facts = dict(cells(line) for line in lines[2:13])
    assert facts == {
        "answered on this machine": "90.9%",
        "answered in the cloud": "9.1%",
        "answered by the cache": "0.0%",
        "fell back": "9.1%",
        "tokens": "11,000 in, 1,100 out",
        "spent": "$0.00055",
        "all in the cloud": f"$0.0060 ({FLASH})",
        "saved": "$0.0055: $0.019 a month, $0.22 a year at this rate",
        "answer after": "p50 2.00 s, p95 2.00 s",
        "first token after": "p50 0.20 s, p95 0.20 s",
        "speed": "50.0 tokens/s, waiting and loading included",
    }
    assert lines[14:] == ["fell back          because", "1            9.1%  no room"]


def test_answers_of_other_machines(log: Path) -> None:
    """If there are any, their share is in the summary, and in a column of the groups."""
    add(log, [turn(NOW)])
    assert "other machines" not in run("savings", "--by", "tier").stdout
    add(log, [turn(NOW, model="tiered/big", tier="big", more={"place": "own"})])
    lines = [cells(line) for line in run("savings", "--by", "tier").stdout.splitlines()]
    assert lines[3] == ["answered on other machines of yours", "50.0%"]
    assert lines[15][2:4] == ["this machine", "other machines"]
    assert [row[2:4] for row in lines[16:18]] == [["0.0%", "100.0%"], ["100.0%", "0.0%"]]


def test_what_is_in_no_log(ten_days: Path) -> None:
    """What was spent on attempts that are in no log is a line of its own, with the true sum."""
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("failed", 1, NOW - DAY, FLASH, Decimal("0.25"))])
    [line] = [line for line in run("savings").stdout.splitlines() if "in no log" in line]
    assert cells(line) == ["spent, but in no log", "$0.25; $0.25 in all"]
    assert run_json("savings")["unlogged"] == {"dollars": "0.25", "unpriced_requests": 0}


def test_a_damaged_ledger(ten_days: Path) -> None:
    """If the ledger can't be read, that sum alone is unknown."""
    ledger_path().write_bytes(b"no database" * 1000)
    [line] = [line for line in run("savings").stdout.splitlines() if "in no log" in line]
    assert cells(line)[1] == "unknown (llm tiered status says why)"
    assert run_json("savings")["unlogged"] is None


def test_nothing_but_failures(log: Path) -> None:
    """Without any request in the log, what failed attempts cost is shown all the same."""
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("failed", 1, NOW - DAY, FLASH, Decimal("0.25"))])
    assert run("savings").stdout.splitlines() == [
        "no requests to tiered",
        "spent, but in no log  $0.25; $0.25 in all",
    ]


def test_unknown_figures(log: Path) -> None:
    """Unknown figures are called unknown or counted, and never shown as zero."""
    configure(tier("all", "1-10", "gemini/gemini-9"))
    unknown = {"input": None, "output": None, "ms": None, "ttft": None}
    add(log, [turn(NOW, model="gemini/gemini-9", tier="all", **unknown)])
    lines = run("savings", "--by", "tier").stdout.splitlines()
    facts = dict(cells(line) for line in lines[2:13])
    assert facts["tokens"] == "0 in, 0 out, unknown for 1 requests"
    assert facts["spent"] == "unknown"
    assert facts["all in the cloud"] == "unknown (gemini/gemini-9)"
    assert facts["saved"] == "unknown: unknown a month, unknown a year at this rate"
    assert facts["answer after"] == facts["first token after"] == "unknown"
    assert cells(lines[15])[-6:] == ["unknown"] * 6


def test_partly_unknown_figures(log: Path) -> None:
    """If some prices are unknown, the sum says for how many requests."""
    add(log, [turn(NOW, model=FLASH), turn(NOW, model="gemini/gemini-9")])
    output = run("savings", "--by", "tier").stdout
    assert "$0.00055, price unknown for 1\n" in output
    assert "$0.00055*" in output
    assert "* and more: the price of some requests is unknown" in output


def test_rows_that_are_not_counted(log: Path) -> None:
    """Other models, damaged rows and dates in the future are noted at the end."""
    rows = [turn(NOW), turn(NOW + 5 * DAY), turn(NOW) | {"datetime_utc": ""}]
    add(log, [*rows, turn(NOW) | {"model": "gpt-4o"}])
    assert run("savings").stdout.splitlines()[-3:] == [
        "not counted, because other models were asked directly: 1 of gpt-4o",
        "not counted, because the row is damaged: 1",
        "counted, though dated in the future: 1",
    ]


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("tier", ["medium", "cloud"]),
        ("task", ["(none)", "theory_analysis"]),
        ("model", [MODELS["medium"], FLASH]),
    ],
)
def test_groups(ten_days: Path, by: str, keys: list[str]) -> None:
    """With --by there is a table with a line for each group, the largest first."""
    lines = run("savings", "--by", by).stdout.splitlines()
    assert cells(lines[14])[0] == by
    assert [cells(line)[0] for line in lines[15:17]] == keys


def test_days(ten_days: Path) -> None:
    """--by day has a line for each day with a request, in order."""
    groups = run_json("savings", "--by", "day")["groups"]
    days = [(NOW - age * DAY).astimezone().date().isoformat() for age in range(9, -1, -1)]
    assert [group["key"] for group in groups] == days
    assert [group["requests"] for group in groups] == [1] * 8 + [2, 1]


def test_json(ten_days: Path) -> None:
    """With --json the output is the report."""
    facts = run_json("savings", "--by", "model")
    assert facts["cloud_model"] == FLASH
    assert facts["total"]["requests"] == 11
    assert facts["total"]["saved"] == {"dollars": "0.0055", "unpriced_requests": 0}
    assert facts["fallbacks"] == [
        {"reason": "no room", "requests": 1, "rate": pytest.approx(1 / 11)}
    ]
    assert [group["key"] for group in facts["groups"]] == [MODELS["medium"], FLASH]


def test_the_whole_json(log: Path) -> None:
    """The complete JSON for one request."""
    add(log, [turn(task="theory_analysis")])
    group = {
        "requests": 1,
        "local_requests": 1,
        "own_requests": 0,
        "cloud_requests": 0,
        "cached_requests": 0,
        "local_share": 1.0,
        "cache_hit_rate": 0.0,
        "fallback_rate": 0.0,
        "input_tokens": 1000,
        "output_tokens": 100,
        "uncounted_requests": 0,
        "spent": {"dollars": "0", "unpriced_requests": 0},
        "cloud_cost": {"dollars": "0.00055", "unpriced_requests": 0},
        "saved": {"dollars": "0.00055", "unpriced_requests": 0},
        "latency_ms": {"p50": 2000, "p95": 2000},
        "first_token_ms": {"p50": 200, "p95": 200},
        "tokens_per_second": 50.0,
    }
    report = savings_report(
        log, Comparison(FLASH), by="task", period=Period(since=END - DAY), now=END
    )
    assert json.loads(json.dumps(report.as_dict())) == {
        "period": {
            "since": "2026-11-21T18:00:00+00:00",
            "until": None,
            "start": "2026-11-22T18:00:00+00:00",
            "end": "2026-11-22T18:00:00+00:00",
            "days": 1.0,
        },
        "cloud_model": FLASH,
        "total": group,
        "saved_per_month": "0.016741",
        "saved_per_year": "0.200888",
        "fallbacks": [],
        "by": "task",
        "groups": [{"key": "theory_analysis"} | group],
        "other_models": [],
        "unreadable_rows": 0,
        "future_requests": 0,
        "unlogged": {"dollars": "0", "unpriced_requests": 0},
    }


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        ("2026-11-01", "2026-11-01T00:00", "2026-11-02T00:00"),
        ("today", "2026-11-22T00:00", "2026-11-23T00:00"),
        ("yesterday", "2026-11-21T00:00", "2026-11-22T00:00"),
        ("12h", "2026-11-22T03:30", "2026-11-22T03:30"),
        ("7d", "2026-11-15T15:30", "2026-11-15T15:30"),
        ("2w", "2026-11-08T15:30", "2026-11-08T15:30"),
        ("2026-11-01T15:00", "2026-11-01T15:00", "2026-11-01T15:00"),
        ("2026-11-01T15:00+00:00", "2026-11-01T16:00", "2026-11-01T16:00"),
        ("2026-10-25", "2026-10-24T22:00+00:00", "2026-10-25T23:00+00:00"),
    ],
)
def test_times(text: str, begins: str, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days, times and ages are in this machine's time zone; some days have 25 hours."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        now = datetime(2026, 11, 22, 15, 30).astimezone()
        expected = tuple(datetime.fromisoformat(moment).astimezone() for moment in (begins, ends))
        assert span(text, now) == expected
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        (["--since", "84h"], 5),
        (["--until", "84h"], 6),
        (["--since", "108h", "--until", "84h"], 1),
        (["--since", "today", "--until", "today"], 1),
        (["--since", "yesterday"], 3),
        (["--until", "2020-01-01"], 0),
    ],
)
def test_periods(ten_days: Path, options: list[str], requests: int) -> None:
    """Only requests in the period count, including those of the day of --until."""
    assert run_json("savings", *options)["total"]["requests"] == requests


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "2026-02-30", "2026-13-01", "7", "-7d", "7y", "99999999999d", "0001-01-01"],
)
def test_wrong_times(log: Path, text: str) -> None:
    """A text that is not a time is an error with the allowed forms."""
    error = refused("savings", "--since", text)
    assert error.startswith(f"{text!r} is not a time (for example 2026-11-01")


def test_an_end_before_the_beginning(log: Path) -> None:
    """A period that ends before it begins is an error."""
    error = refused("savings", "--since", "2026-11-05", "--until", "2026-11-04")
    assert error == "--since 2026-11-05 is not before --until 2026-11-04"


def test_an_unknown_grouping(log: Path) -> None:
    """An unknown group is an error with the known ones."""
    assert "'day', 'tier', 'task', 'model'" in run("savings", "--by", "mood", code=2).stderr


def test_no_requests_yet(log: Path) -> None:
    """A log without a request to `tiered` is not an error."""
    assert run("savings").stdout == "no requests to tiered\n"
    assert run("savings", "--since", "7d").stdout == "no requests to tiered in this period\n"
    assert run_json("savings")["total"]["requests"] == 0


def test_no_log_yet(logs: Path) -> None:
    """A missing log is an error, and none is created."""
    assert refused("savings").startswith("there is no log yet: ")
    assert not logs.exists()


def test_spent_without_a_log(logs: Path) -> None:
    """Without a log, the report still says what was spent."""
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("failed", 1, NOW - DAY, FLASH, Decimal("0.25"))])
    assert run("savings", "--by", "tier").stdout.splitlines() == [
        "no requests to tiered",
        "spent, but in no log  $0.25; $0.25 in all",
    ]
    assert not logs.exists()


def test_a_damaged_log(logs: Path) -> None:
    """A log that is not a database is an error of one line."""
    logs.write_bytes(b"something else" * 100)
    assert refused("savings").endswith("can't be read: file is not a database")


def test_without_a_cloud_tier(log: Path) -> None:
    """With only local tiers there is nothing to compare with, and the output says so."""
    configure(tier("all", "1-10", MODELS["medium"]))
    add(log, [turn(NOW)])
    assert "all in the cloud          unknown (no such tier)\n" in run("savings").stdout


@pytest.mark.parametrize("name", ["gemini-flash-latest", CLOUD])
def test_the_cloud_tier_by_its_alias(log: Path, name: str) -> None:
    """An alias of the cloud tier's model means that model."""
    configure(tier("medium", "1-7", MODELS["medium"]), tier("cloud", "8-10", name))
    assert run_json("savings")["cloud_model"] == CLOUD


def test_only_sums_are_written(ten_days: Path, user_path: Path, connections: list[Any]) -> None:
    """The command writes nothing but sums of its own, and makes no connection."""
    before = {path: path.stat().st_mtime_ns for path in user_path.rglob("*") if path.is_file()}
    run("savings", "--by", "day")
    after = {path: path.stat().st_mtime_ns for path in user_path.rglob("*") if path.is_file()}
    new = {path: time for path, time in after.items() if path.parent != sums_folder()}
    assert new == before
    assert connections == []


def drawn(path: Path) -> tuple[list[str], list[list[tuple[float, float]]]]:
    """The texts of the chart and the points of its two lines."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    lines = [line for line in root.iter(f"{SVG}polyline") if line.get("stroke-width") == "2"]
    points = [
        [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
        for line in lines
    ]
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    return texts, points  # type: ignore[return-value]  # two numbers each


def test_chart(ten_days: Path, tmp_path: Path) -> None:
    """Savings and costs are two lines of sums over the days, with labels and a scale."""
    picture = tmp_path / "savings.svg"
    assert "11 requests" in run("savings", "--plot", str(picture)).stdout
    texts, (saved, spent) = drawn(picture)
    assert len(saved) == len(spent) == 10
    assert saved == sorted(saved, key=lambda point: (point[0], -point[1]))
    assert {"saved $0.0055", "spent $0.00055"} <= set(texts)
    assert {(NOW - 9 * DAY).astimezone().date().isoformat(), "$0", "$0.005"} <= set(texts)


def test_chart_of_one_day(log: Path, tmp_path: Path) -> None:
    """A single day without costs gives a chart, too."""
    add(log, [turn(NOW)])
    picture = tmp_path / "savings.svg"
    run("savings", "--by", "day", "--plot", str(picture), "--json")
    texts, (saved, spent) = drawn(picture)
    assert len(saved) == len(spent) == 1
    assert texts.count(NOW.astimezone().date().isoformat()) == 1


def test_chart_of_nothing(log: Path, tmp_path: Path) -> None:
    """A chart without any requests is an error."""
    picture = tmp_path / "savings.svg"
    assert refused("savings", "--plot", str(picture)).startswith("there is nothing to draw")
    assert not picture.exists()


def test_chart_in_another_format(ten_days: Path, tmp_path: Path) -> None:
    """A chart whose name does not end in .svg is an error."""
    assert "SVG" in refused("savings", "--plot", str(tmp_path / "savings.png"))


def test_chart_that_can_not_be_written(ten_days: Path, tmp_path: Path) -> None:
    """A file that can't be written is named in the error."""
    picture = tmp_path / "nowhere" / "savings.svg"
    assert refused("savings", "--plot", str(picture)).startswith(f"{picture} can't be written")
