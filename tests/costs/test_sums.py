"""The sums that are kept equal those over the rows, whatever happens to the log."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs import upkeep
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.periods import ALWAYS, Period
from llm_tiered.costs.prices import Energy
from llm_tiered.costs.savings import savings_reports
from llm_tiered.costs.times import ERROR
from llm_tiered.log import version
from llm_tiered.paths import sums_folder
from tests.costs import row_by_row
from tests.costs.log_changes import Changes
from tests.make_log import END, add, make_log, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.costs.requests import By

DAY = timedelta(days=1)
NOW = END
COMPARISON = Comparison("gemini/gemini-flash-latest", Energy(30, Decimal("0.3")))
BYS: tuple[By | None, ...] = (None, "day", "tier", "task", "model", "rule", "rollout")


def differences(log: Path, period: Period = ALWAYS, now: datetime = NOW) -> list[Any]:
    """Return what in the reports on a log differs from the reports row by row."""
    wrong: list[Any] = []
    reports = savings_reports(log, COMPARISON, BYS, period=period, now=now)
    rights = row_by_row.facts(log, COMPARISON, BYS, period=period, now=now)
    for by, report, right in zip(BYS, reports, rights, strict=True):
        facts = report.as_dict()
        mine = {
            "total": facts["total"],
            "groups": {group.pop("key"): group for group in facts["groups"]},
            "fallbacks": {each["reason"]: each["requests"] for each in facts["fallbacks"]},
            "other_models": {each.pop("model"): [*each.values()] for each in facts["other_models"]},
            "unreadable_rows": facts["unreadable_rows"],
            "future_requests": facts["future_requests"],
        }
        first = right.pop("start")
        if period.since is None and facts["period"]["start"] != first:
            wrong.append((by, "start", facts["period"]["start"], first))
        compare(mine, right, (by,), wrong)
    return wrong


def compare(mine: Any, right: Any, place: tuple[Any, ...], wrong: list[Any]) -> None:
    """Add to `wrong` where two reports differ by more than they may."""
    name = place[-1]
    if name in ("spent", "cloud_cost", "saved"):
        dollars, unpriced = right
        mine_dollars = mine["dollars"] and Decimal(mine["dollars"])
        close = (mine_dollars is None) == (dollars is None) and (
            dollars is None or abs(mine_dollars - dollars) < Decimal("1e-20")
        )
        if not close or mine["unpriced_requests"] != unpriced:
            wrong.append((place, mine, right))
    elif isinstance(mine, dict) and isinstance(right, dict):
        if set(mine) != set(right):
            wrong.append((place, sorted(map(str, mine)), sorted(map(str, right))))
        for key in set(mine) & set(right):
            compare(mine[key], right[key], (*place, key), wrong)
    elif name in ("p50", "p95"):
        if abs(mine - right) > ERROR * right:
            wrong.append((place, mine, right))
    elif mine != (pytest.approx(right) if isinstance(right, float) else right):
        wrong.append((place, mine, right))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few rows, of which few are added up or compared at a time."""
    for name, value in {"LARGE": 12, "SMALL": 3, "CHUNK": 4, "COMPARED": 30}.items():
        monkeypatch.setattr(upkeep, name, value)


@pytest.mark.usefixtures("small_blocks")
def test_random_logs(log: Path) -> None:
    """After any changes of a log, every report has the sums over its rows."""
    wrong = []
    for seed in range(3):
        changes = Changes(log, seed)
        changes.run("delete from turns")
        changes.run("delete from responses")
        add(log, [changes.row() for _ in range(60)])
        for _ in range(5):
            made = [changes.any() for _ in range(changes.rng.randrange(1, 4))]
            for change in made:
                change()
            if found := differences(log, changes.period()):
                wrong.append((seed, [change.__name__ for change in made], found[:3]))
    assert wrong == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("replaced", [1, upkeep.REPLACED])
def test_changes_of_a_large_log(log: Path, monkeypatch: pytest.MonkeyPatch, replaced: int) -> None:
    """Almost without routine comparisons, changes other than added turns are noticed at once."""
    monkeypatch.setattr(upkeep, "ROUTINE", 1)
    monkeypatch.setattr(upkeep, "REPLACED", replaced)
    wrong = []
    changes = Changes(log, 7)
    add(log, [changes.row() for _ in range(60)])
    for _ in range(2):
        for change in changes.kinds:
            if change != changes.update_and_log:
                change()
                if found := differences(log):
                    wrong.append((change.__name__, found[:3]))
    assert wrong == []


@pytest.mark.usefixtures("small_blocks")
def test_added_turns_alone_are_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After new turns, blocks that were added up are not read again, apart from the routine."""
    monkeypatch.setattr(upkeep, "ROUTINE", 6)
    changes = Changes(log, 3)
    add(log, [changes.row() for _ in range(60)])
    assert differences(log) == []
    compared: list[Any] = []
    digest = upkeep._digest

    def counted(*rows: Any) -> bytes:
        compared.append(rows)
        return digest(*rows)

    monkeypatch.setattr(upkeep, "_digest", counted)
    add(log, [changes.row()])
    assert differences(log) == []
    assert 1 <= len(compared) <= 3
    compared.clear()
    assert differences(log) == []
    assert compared == []


@pytest.mark.usefixtures("small_blocks")
def test_a_hidden_change_is_noticed_in_time(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes old turns while it adds as many as it has transactions is found by routine."""
    monkeypatch.setattr(upkeep, "ROUTINE", 12)
    changes = Changes(log, 4)
    add(log, [changes.row() for _ in range(60)])
    assert differences(log) == []
    changes.update_and_log()
    for _ in range(8):
        savings_reports(log, COMPARISON, BYS, now=NOW)
        add(log, [changes.row()])
    assert differences(log) == []


def zone(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    """Set the time zone."""
    if name:
        monkeypatch.setenv("TZ", name)
    else:
        monkeypatch.delenv("TZ")
    time.tzset()


@pytest.mark.usefixtures("small_blocks")
def test_time_zones(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days are those of the time zone of now, also where other sums were kept in between."""
    changes = Changes(log, 5)
    add(log, [changes.row() for _ in range(60)])
    try:
        for name in ("Pacific/Auckland", "America/St_Johns", "Pacific/Auckland"):
            zone(monkeypatch, name)
            assert differences(log) == []
            assert differences(log, Period(END - 30 * DAY, END - 10 * DAY)) == []
    finally:
        zone(monkeypatch, None)


@pytest.mark.usefixtures("small_blocks")
def test_sums_that_can_not_be_used(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged sums, those of another version, and those of another log at its place, are made anew.

    Where nothing can be written, they are made for once.
    """
    changes = Changes(log, 6)
    add(log, [changes.row() for _ in range(60)])
    assert differences(log) == []
    [file] = sums_folder().glob("*.db")
    file.write_bytes(b"not a database" * 100)
    assert differences(log) == []
    damaged = bytearray(file.read_bytes())
    damaged[5000:9000] = bytes(4000)
    file.write_bytes(damaged)
    assert differences(log) == []
    for damage in (
        "times set classes = x'00'",
        "names set name = '[' || id",
        "blocks set sums = x'00'",
    ):
        with closing(sqlite3.connect(file)) as database, database:
            database.execute(f"update {damage}")
        changes.update()
        assert differences(log) == [], damage
    monkeypatch.setattr(upkeep, "VERSION", 99)
    assert differences(log) == []
    other = log.with_name("other.db")
    make_log(other, 50)
    other.replace(log)
    assert differences(log) == []
    shutil.rmtree(sums_folder())
    sums_folder().write_text("a file where the folder should be")
    assert differences(log) == []


@pytest.mark.usefixtures("small_blocks")
def test_write_ahead_log(log: Path) -> None:
    """A log in write-ahead mode counts no transactions, so all blocks are compared."""
    changes = Changes(log, 8)
    add(log, [changes.row() for _ in range(60)])
    with closing(sqlite3.connect(log)) as writer:
        writer.execute("pragma journal_mode = wal")
        assert differences(log) == []
        changes.log_turns()
        assert differences(log) == []
        changes.update()
        assert differences(log) == []


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupted_start(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was added up before the process ended is not added up again."""
    changes = Changes(log, 9)
    add(log, [changes.row() for _ in range(100)])
    read: list[Any] = []
    read_block = upkeep._read_block

    def interrupted(*rows: Any) -> Any:
        read.append(rows)
        if len(read) == 7:
            raise KeyboardInterrupt
        return read_block(*rows)

    monkeypatch.setattr(upkeep, "_read_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        differences(log)
    assert differences(log) == []
    # The chunk that was interrupted has four blocks, of which two had been read.
    assert len(read) <= 100 // 12 + 10


@pytest.mark.usefixtures("small_blocks")
def test_two_at_once(log: Path) -> None:
    """Several at once bring the same sums up to date while the log is written."""
    changes = Changes(log, 10)
    add(log, [changes.row() for _ in range(150)])
    failed: list[BaseException] = []

    def report() -> None:
        try:
            for _ in range(3):
                savings_reports(log, COMPARISON, (None, "day"), now=NOW)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=report) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        add(log, [changes.row()])
    for thread in threads:
        thread.join()
    assert failed == []
    assert differences(log) == []


def test_nothing_that_was_said_is_kept(log: Path) -> None:
    """The sums have neither prompts nor answers nor options, and only their owner may read them."""
    secret = "the secret word"
    rows = [turn(END - DAY) for _ in range(400)]
    for row in rows:
        row["options_json"] = f'{{"system": "{secret}"}}'
        row["response_json"] = row["response_json"].replace("null}", f'"{secret}"}}')
    add(log, rows)
    savings_reports(log, COMPARISON, BYS, now=NOW)
    [file] = sums_folder().glob("*.db")
    assert secret.encode() not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


def test_reading_the_header_keeps_locks(log: Path) -> None:
    """The count of transactions is read without giving up the locks of this process."""
    with closing(sqlite3.connect(log, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        version._header(log, log.stat())
        code = (
            "import sqlite3, sys\n"
            "try: sqlite3.connect(sys.argv[1], timeout=0).execute('select * from turns')\n"
            "except sqlite3.OperationalError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True
        )
        writer.execute("rollback")
    assert done.stdout == "database is locked\n"
