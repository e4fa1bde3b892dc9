"""The ledger: a small database of what requests to the cloud cost."""

from __future__ import annotations

import random
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from llm_tiered.costs import ledger as ledger_module
from llm_tiered.costs.ledger import CopiedTo, Entry, Ledger, Spent
from llm_tiered.errors import TieredError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 22, 18, tzinfo=timezone.utc)
DAY = timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger will be."""
    return tmp_path / "tiered" / "costs.db"


def entry(response_id: str = "a", attempt: int = 1, amount: str | None = "0.25") -> Entry:
    """Return an entry of now."""
    dollars = None if amount is None else Decimal(amount)
    return Entry(response_id, attempt, NOW, "gemini/gemini-2.5-flash", dollars)


def test_what_is_written_is_read(path: Path) -> None:
    """Entries come back as they were, the earliest first, to a millionth of a millionth dollar."""
    entries = [
        entry(amount="0.000000000001"),
        entry("b", amount=None)._replace(complete=False),
        entry("b", 2)._replace(answer=True, at=NOW + DAY),
        entry("c")._replace(held=True, at=NOW - DAY),
    ]
    with Ledger(path) as ledger:
        ledger.put(entries)
        assert ledger.between(None, None) == [entries[3], *entries[:3]]
        assert ledger.between(NOW, NOW + DAY) == entries[:2]
        assert [ledger.has_answer(each) for each in "abcd"] == [False, True, False, False]


def test_sums(path: Path) -> None:
    """Sums are exact; unknown and incomplete amounts are counted, later days left out."""
    with Ledger(path) as ledger:
        ledger.put([entry(str(place), amount="0.1") for place in range(30)])
        ledger.put([entry("x", amount=None), entry("y")._replace(complete=False)])
        ledger.put([entry("z")._replace(at=NOW + 3 * DAY), entry("old")._replace(at=NOW - 5 * DAY)])
        spent = ledger.spent(NOW - DAY / 2, NOW - 10 * DAY)
    assert spent == Spent(Decimal("3.25"), Decimal("3.5"), unpriced=2)


def summed(ledger: Ledger, since: datetime, until: datetime) -> tuple[Decimal, int]:
    """Return the sum of the entries of a period, one by one, and the number without or beyond."""
    entries = ledger.between(since, until)
    unpriced = sum(each.amount is None or not each.complete for each in entries)
    return sum((each.amount or Decimal(0) for each in entries), Decimal(0)), unpriced


def test_sums_are_those_of_the_entries(path: Path) -> None:
    """Whatever is written, replaced and removed, wherever a day begins, the sums are exact."""
    rng = random.Random(5)
    wrong = []
    with Ledger(path) as ledger:
        for _ in range(60):
            ledger.put(
                entry(
                    rng.choice("abcdefgh"), rng.randrange(3), rng.choice([None, "0.1", "0.7"])
                )._replace(
                    at=NOW - rng.random() * 3 * DAY,
                    complete=rng.random() < 0.8,
                    held=rng.random() < 0.3,
                )
                for _ in range(4)
            )
            ledger.drop(rng.choice("abcdefgh"))
            ledger.remove(rng.choice("abcdefgh"), 1)
            day, month = (NOW - rng.random() * length * DAY for length in (1, 3))
            until = day + 2 * DAY
            today, this_month = (summed(ledger, since, until) for since in (day, month))
            right = Spent(today[0], this_month[0], max(today[1], this_month[1]))
            if (spent := ledger.spent(day, month)) != right:
                wrong.append((spent, right))
    assert wrong == []


def test_sums_within_an_hour(path: Path) -> None:
    """Entries of the same hour before the start of a period are not in it."""
    half = timedelta(minutes=30)
    with Ledger(path) as ledger:
        ledger.put([entry("a")._replace(at=NOW + half / 2), entry("b")._replace(at=NOW + half)])
        assert ledger.spent(NOW + half, NOW + half).day == Decimal("0.25")
        assert ledger.spent(NOW, NOW + half) == Spent(Decimal("0.5"), Decimal("0.25"), 0)


def test_a_ledger_without_totals(path: Path) -> None:
    """What an earlier version wrote is kept and added up."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "create table entries (response_id text not null, attempt integer not null,"
            " at integer not null, model text not null, amount integer, complete integer not null,"
            " answer integer not null, held integer not null, primary key (response_id, attempt))"
            " without rowid"
        )
        database.execute("create index amounts on entries (at, amount, complete)")
        database.execute("create table mark (turn_rowid integer, turn_id text, first_id text)")
        database.execute("pragma user_version = 1")
        rows = [
            (str(place), 1, int(NOW.timestamp() * 1000), "gemini/gemini-2.5-flash", amount, 1, 1, 0)
            for place, amount in enumerate((250_000_000_000, 250_000_000_000, None))
        ]
        database.executemany("insert into entries values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        database.execute("insert into mark values (3, 'a', 'a')")
    half = Decimal("0.5")
    for _ in range(2):
        with Ledger(path) as ledger:
            assert ledger.copied_to() == CopiedTo(3, "a", "a")
            assert ledger.spent(NOW - DAY, NOW - DAY) == Spent(half, half, unpriced=1)


def test_absurd_amounts(path: Path) -> None:
    """An amount that nobody is charged is unknown, so that it does not end the sums."""
    with Ledger(path) as ledger:
        ledger.put([entry(amount="1e30"), entry("b")])
        quarter = Decimal("0.25")
        assert ledger.spent(NOW - DAY, NOW - DAY) == Spent(quarter, quarter, unpriced=1)


def test_replace_and_remove(path: Path) -> None:
    """An attempt is written once, and what is held for a response can be dropped."""
    with Ledger(path) as ledger:
        ledger.put([entry(amount="1"), entry(amount="2"), entry("a", 2)._replace(held=True)])
        ledger.drop("a")
        assert ledger.between(None, None) == [entry(amount="2")]
        ledger.remove("a", 1)
        assert ledger.between(None, None) == []


def test_old_entries_are_forgotten(path: Path) -> None:
    """Entries of more than a year ago make room."""
    with Ledger(path) as ledger:
        ledger.put([entry("old")._replace(at=NOW - 401 * DAY), entry("new")])
        ledger.forget_old(NOW)
        assert [each.response_id for each in ledger.between(None, None)] == ["new"]
        assert ledger.spent(NOW, NOW - 500 * DAY).month == Decimal("0.25")


def test_how_far_the_log_was_copied(path: Path) -> None:
    """The latest mark is kept."""
    with Ledger(path) as ledger:
        assert ledger.copied_to() is None
        ledger.set_copied_to(CopiedTo(3, "a", "a"))
        ledger.set_copied_to(CopiedTo(5, "b", "a"))
        assert ledger.copied_to() == CopiedTo(5, "b", "a")


def test_private(path: Path) -> None:
    """Only the user can read the file."""
    with Ledger(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"no database" * 1000, None])
def test_a_file_that_cannot_be_used(path: Path, content: bytes | None) -> None:
    """What was spent is unknown then, and not nothing: the error says how to begin again."""
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with (
        pytest.raises(TieredError, match=r"costs\.db, where costs are counted") as error,
        Ledger(path),
    ):
        pass
    assert bool(error.value.fix) == (content is not None)


def test_damage_inside(path: Path) -> None:
    """Damage that shows only when a page is read is the same error."""
    with Ledger(path) as ledger:
        ledger.put([entry(str(place)) for place in range(1000)])
    content = bytearray(path.read_bytes())
    content[5000:] = b"\xff" * (len(content) - 5000)
    path.write_bytes(content)
    with Ledger(path) as ledger, pytest.raises(TieredError, match="delete it"):
        ledger.spent(NOW - DAY, NOW - DAY)


def test_a_locked_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process keeps locked is one clear error."""
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.05)
    with Ledger(path), closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked"), Ledger(path) as ledger:
            ledger.put([entry()])


def test_an_error_undoes_the_block(path: Path) -> None:
    """Nothing of a block that raises is written."""
    with Ledger(path) as ledger:
        with suppress(ZeroDivisionError), ledger.writing():
            ledger.put([entry()])
            _ = 1 / 0
        assert ledger.between(None, None) == []


def test_many_writers(path: Path) -> None:
    """Writers wait for each other, from the first one on, which creates the file."""

    def write(place: int) -> None:
        with Ledger(path) as ledger, ledger.writing():
            before = ledger.spent(NOW - DAY, NOW - DAY).day
            ledger.put([entry(str(place), amount="1")])
            assert ledger.spent(NOW - DAY, NOW - DAY).day == before + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    with Ledger(path) as ledger:
        assert ledger.spent(NOW - DAY, NOW - DAY).day == 40
