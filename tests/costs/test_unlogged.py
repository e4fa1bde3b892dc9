"""What was spent without a trace in the log, whatever happens to the log and to the ledger."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs import unlogged
from llm_tiered.costs.ledger import Entry, Ledger
from llm_tiered.costs.periods import ALWAYS, Period
from llm_tiered.costs.tally import Money
from llm_tiered.costs.unlogged import read_unlogged, read_unlogged_since
from llm_tiered.log.database import reading
from llm_tiered.paths import ledger_path
from tests.make_log import CLOUD, END, add, empty_log, turn

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.log.version import LogVersion

HOUR = timedelta(hours=1)
PERIODS = (ALWAYS, Period(END - 3 * HOUR), Period(END - 5 * HOUR, END - HOUR))
IDS = [f"{number:026}" for number in range(30)]


def one_by_one(log: Path, period: Period) -> Money:
    """Return what `read_unlogged` has to, from all entries and all turns."""
    with closing(sqlite3.connect(log)) as database:
        logged = {id_ for (id_,) in database.execute("select id from turns")}
    money = Money()
    with Ledger(ledger_path()) as ledger:
        for entry in ledger.between(*period):
            if not (entry.answer and entry.response_id in logged):
                money.add(entry.amount, 1)
                money.unpriced += entry.amount is not None and not entry.complete
    return money


def differences(log: Path) -> list[Any]:
    """Return where what is read differs from the sums over all entries."""
    with reading(log) as database:
        both = [(read_unlogged(log, database, each), one_by_one(log, each)) for each in PERIODS]
    return [pair for pair in both if pair[0] != pair[1]]


def put(rng: random.Random, number: int) -> None:
    """Write attempts into the ledger."""
    entries = [
        Entry(
            rng.choice(IDS),
            rng.randrange(3),
            END - rng.random() * 8 * HOUR,
            CLOUD,
            rng.choice([None, Decimal("0.1"), Decimal("0.2")]),
            complete=rng.random() < 0.8,
            answer=rng.random() < 0.7,
        )
        for _ in range(number)
    ]
    with Ledger(ledger_path()) as ledger:
        ledger.put(entries)


def logged(log: Path) -> list[str]:
    """Return the ids in the log."""
    with closing(sqlite3.connect(log)) as database:
        return [id_ for (id_,) in database.execute("select id from turns")]


def add_turns(log: Path, rng: random.Random) -> None:
    """Log turns, each in a transaction of its own."""
    missing = [id_ for id_ in IDS if id_ not in logged(log)]
    for id_ in rng.sample(missing, min(2, len(missing))):
        add(log, [turn(END, id=id_)])


def delete(log: Path, rng: random.Random) -> None:
    """Delete turns, often the last one, and log others instead."""
    ids = logged(log)
    with closing(sqlite3.connect(log)) as database, database:
        for id_ in {*rng.sample(ids, min(2, len(ids))), *ids[-1:]}:
            database.execute("delete from turns where id = ?", (id_,))
    if rng.random() < 0.5:
        add_turns(log, rng)


def remove(_: Path, rng: random.Random) -> None:
    """Remove attempts."""
    with Ledger(ledger_path()) as ledger:
        ledger.remove(rng.choice(IDS), 1)


def replace(log: Path, rng: random.Random) -> None:
    """Put another log in its place."""
    other = log.with_name("other.db")
    empty_log(other)
    add_turns(other, rng)
    other.replace(log)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_whatever_happens(log: Path, journal: str) -> None:
    """After any changes, what is unlogged is what the entries and the log say one by one."""
    rng = random.Random(11)
    wrong = []
    put(rng, 20)
    for step in range(24):
        with closing(sqlite3.connect(log)) as database:
            database.execute(f"pragma journal_mode = {journal}")
        kinds = [add_turns, add_turns, delete, remove, *([replace] if step % 8 == 7 else [])]
        for change in rng.sample(kinds, 2):
            change(log, rng)
        put(rng, rng.randrange(3))
        if found := differences(log):
            wrong.append((step, found))
    assert wrong == []


def test_old_answers_are_looked_for_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are in the log are not looked for again while turns are only added."""
    looked: list[str] = []
    look = unlogged._logged

    def counted(database: sqlite3.Connection, ids: list[str]) -> list[str]:
        looked.extend(ids)
        return look(database, ids)

    monkeypatch.setattr(unlogged, "_logged", counted)
    entries = [Entry(id_, 1, END, CLOUD, Decimal(1), answer=True) for id_ in IDS]
    with Ledger(ledger_path()) as ledger:
        ledger.put(entries[:-1])
    add(log, [turn(END, id=id_) for id_ in IDS[:-1]])
    assert read_unlogged_since(log, END - HOUR) == Money()
    assert sorted(looked) == IDS[:-1]
    looked.clear()
    add(log, [turn(END, id=IDS[-1])])
    with Ledger(ledger_path()) as ledger:
        ledger.put(entries[-1:])
    assert read_unlogged_since(log, END - HOUR) == Money()
    assert looked == IDS[-1:]


def test_many_local_turns(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is noted as seen from time to time, though no turn is in the ledger."""
    monkeypatch.setattr(unlogged, "_AT_MOST", 3)
    seen: list[LogVersion] = []
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("a", 1, END, CLOUD, Decimal(1))])
        for _ in range(9):
            add(log, [turn(END)])
            assert read_unlogged_since(log, END - HOUR) == Money(Decimal(1), 1)
            state = ledger.log_seen()
            assert state
            seen.append(state.version)
    assert len(set(seen)) == 3


def test_without_a_log(log: Path) -> None:
    """If the log is gone, all that was spent is in no log."""
    with Ledger(ledger_path()) as ledger:
        ledger.put([Entry("a", 1, END, CLOUD, Decimal(1), answer=True)])
    add(log, [turn(END, id="a")])
    assert read_unlogged_since(log, END - HOUR) == Money()
    log.unlink()
    assert read_unlogged_since(log, END - HOUR) == Money(Decimal(1), 1)
