"""Random rows of a log, and what random things may happen to it."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from llm_tiered.costs.periods import ALWAYS, Period
from tests.costs.reports import FLASH
from tests.make_log import END, MODELS, add, attempt, gemini_response, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = timedelta(days=1)

DAMAGE: tuple[dict[str, Any], ...] = (
    {"response_json": "{"},
    {"response_json": None},
    {"datetime_utc": None},
    {"datetime_utc": "yesterday"},
    {"datetime_utc": 5},
    {"datetime_utc": "2026-11-20 10:00:00"},
    {"datetime_utc": "2026-11-20T23:30:00+05:00"},
    {"datetime_utc": (END + 3 * DAY).isoformat()},
    {"input_tokens": "many"},
    {"output_tokens": -1},
    {"input_tokens": None},
    {"duration_ms": None},
    {"token_details": "{"},
    {"resolved_model": None},
    {"resolved_model": None, "token_details": '{"cachedContentTokenCount": 3}'},
    {"resolved_model": "nobody/knows"},
    {"model": "gpt-4o"},
    {"model": None, "input_tokens": 1.5},
)

DETAILS = (
    None,
    {"cachedContentTokenCount": 40},
    {"thoughtsTokenCount": 5},
    {"oddTokens": 7},
    {"cachedContentTokenCount": 40, "oddTokens": 0},
    {"cachedContentTokenCount": 10**9},
    {"service_tier": "priority", "cachedContentTokenCount": 3},
)


# Where models ran, and what the config said that they cost; the last one is damaged.
PLACES: list[dict[str, Any]] = [
    {"place": "own"},
    {"place": "own", "price": {"input": "0.1", "output": "0.40"}},
    {"place": "cloud", "price": {"hour": "1.2"}},
    {"place": "here"},
    {"place": "moon", "price": {"input": "lots"}},
]


class Changes:
    """Makes random rows and random changes of a log."""

    def __init__(self, log: Path, seed: int) -> None:
        self.log = log
        self.rng = random.Random(seed)
        self.time = END - 40 * DAY

    def row(self, when: datetime | None = None) -> dict[str, Any]:
        """Return a turn, damaged now and then, by default the next one."""
        rng = self.rng
        if when is None:
            self.time += timedelta(seconds=rng.expovariate(1 / 9000))
            when = self.time
        model = rng.choice([*MODELS.values(), FLASH, "gemini/gemini-2.5-pro"])
        cached = rng.random() < 0.15
        row = turn(
            when,
            model=model,
            tier=rng.choice(("small", "medium", "cloud")),
            task=rng.choice((None, "theory_analysis", "5")),
            input=0 if cached else rng.choice((50, 900, 32_001, 200_001, 250_000)),
            output=0 if cached else rng.randrange(400),
            details=None if cached else rng.choice(DETAILS),
            ms=int(rng.lognormvariate(7, 1.5)),
            ttft=rng.choice((None, 5, 300, 4000)),
            attempts=[attempt("small", "x", rng.choice(("no room", "can't", f"7 {rng.random()}")))]
            if rng.random() < 0.2
            else None,
            cached_from=self.some_id() if cached else None,
            response=gemini_response("gemini-2.5-flash") if rng.random() < 0.3 else None,
            more=rng.choice(PLACES) if rng.random() < 0.3 else None,
        )
        if rng.random() < 0.1:
            record = json.loads(row["response_json"])
            record["tiered"] |= {
                "rules": ["easy", "rule 2"][: rng.randrange(3)],
                "rollout": {"name": "medium", "share": 0.5, "included": rng.random() < 0.5},
            }
            row["response_json"] = json.dumps(record)
        return row | (rng.choice(DAMAGE) if rng.random() < 0.1 else {})

    def some_id(self) -> str:
        """Return the id of some turn in the log, or of none."""
        with closing(sqlite3.connect(self.log)) as database:
            query = "select id from turns order by abs(random() % 1000 + rowid * ?) limit 1"
            row = database.execute(query, (self.rng.randrange(1000),)).fetchone()
        return row[0] if row else "gone"

    def log_turns(self) -> None:
        """Log turns as llm does: each in a transaction."""
        for _ in range(self.rng.randrange(1, 12)):
            add(self.log, [self.row()])

    def log_again(self) -> None:
        """Log a turn again, which replaces its row by a new one."""
        row = self.row() | {"id": self.some_id()}
        self.run("delete from turns where id = ?", (row["id"],))
        add(self.log, [row])

    def replace(self) -> None:
        """The same in one transaction."""
        row = self.row() | {"id": self.some_id()}
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        self.run(f"insert or replace into turns ({names}) values ({places})", row)

    def import_turns(self) -> None:
        """Add many older turns in one transaction, some to the table of an older llm."""
        times = [END - self.rng.random() * 60 * DAY for _ in range(self.rng.randrange(1, 30))]
        table = self.rng.choice(("turns", "turns", "responses"))
        add(self.log, [self.row(when) for when in times], table=table)

    def delete(self) -> None:
        """Delete some turns: single ones, the latest, or most of them."""
        rng = self.rng
        where = rng.choice(
            (
                f"rowid % {rng.randrange(3, 30)} = 0",
                f"rowid > (select max(rowid) from turns) - {rng.randrange(1, 40)}",
                f"datetime_utc < '{(END - rng.random() * 40 * DAY).isoformat()}'",
            )
        )
        self.run(f"delete from turns where {where}")

    def update(self) -> None:
        """Change a column of some turns."""
        rng = self.rng
        what = rng.choice(
            (
                "input_tokens = input_tokens + 1",
                "duration_ms = 77",
                "token_details = '{\"cachedContentTokenCount\": 1}'",
                "response_json = replace(response_json, 'medium', 'larger')",
                "datetime_utc = '2026-11-01T00:00:00'",
                "model = 'gpt-4o'",
                "resolved_model = 'mlx/other'",
            )
        )
        self.run(f"update turns set {what} where rowid % {rng.randrange(2, 60)} = 1")

    def update_and_log(self) -> None:
        """Change a turn in the transaction that adds another one: no count tells."""
        row = self.row()
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        with closing(sqlite3.connect(self.log)) as database, database:
            database.execute("update turns set output_tokens = 9 where rowid % 7 = 3")
            database.execute(f"insert into turns ({names}) values ({places})", row)

    def rewrite(self) -> None:
        """Rewrite the file, which may change rowids."""
        with closing(sqlite3.connect(self.log)) as database:
            database.execute("vacuum")

    def other_tables(self) -> None:
        """Write to another table of the log."""
        self.run("insert into fragments (hash, content) values (hex(randomblob(8)), 'x')")

    def run(self, statement: str, values: Any = ()) -> None:
        """Run a statement in a transaction of its own."""
        with closing(sqlite3.connect(self.log)) as database, database:
            database.execute(statement, values)

    @property
    def kinds(self) -> tuple[Callable[[], None], ...]:
        """All kinds of changes."""
        return (
            self.log_turns,
            self.log_again,
            self.replace,
            self.import_turns,
            self.delete,
            self.update,
            self.update_and_log,
            self.rewrite,
            self.other_tables,
        )

    def any(self) -> Callable[[], None]:
        """Return some change, most often a few new turns."""
        return self.rng.choice(self.kinds + self.kinds[:1] * 3)

    def period(self) -> Period:
        """Return some period."""
        rng = self.rng
        some, other = sorted(END - rng.random() * 50 * DAY for _ in range(2))
        return rng.choice((ALWAYS, Period(some), Period(None, other), Period(some, other)))
