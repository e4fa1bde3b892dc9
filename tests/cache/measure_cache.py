"""Measure the cache and its index: `python -m tests.cache.measure_cache`.

A look-up is timed as `tiered` makes it: it opens the log and the index, reads new turns, and
returns the answer. There is a log of 1,000 turns and one of `--turns`; the index of the latter is
then filled up to `--filled` answers with made-up entries.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from unittest import mock

import click
from tabulate import tabulate

from llm_tiered.cache.answers import last_position
from llm_tiered.cache.index import Index
from llm_tiered.cache.lookup import find
from llm_tiered.log.database import reading
from llm_tiered.log.record import json_path
from tests.make_log import add_with_messages, make_log, turn

NO_SUCH_KEY = "0" * 64

_KEYS = f"""
select json_extract(response_json, '{json_path("cache_key")}') from turns
where model = 'tiered' order by random() limit ?
"""


@dataclass(frozen=True)
class Folder:
    """A user directory of llm, with a log and the index beside it."""

    path: Path

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / "logs.db"

    @property
    def index(self) -> Path:
        """The index of the cache."""
        return self.path / "tiered" / "cache.db"

    @property
    def entries(self) -> int:
        """The number of answers in the index."""
        with closing(sqlite3.connect(self.index)) as database:
            (number,) = database.execute("select count(*) from answers").fetchone()
        return int(number)

    def use(self) -> None:
        """Make it llm's user directory."""
        os.environ["LLM_USER_PATH"] = str(self.path)

    def keys(self, number: int) -> list[str]:
        """Return a number of random keys of the log, repeated if it has fewer."""
        with closing(sqlite3.connect(self.log)) as database:
            keys = [key for (key,) in database.execute(_KEYS, (number,))]
        return [keys[index % len(keys)] for index in range(number)]


def look_up(key: str) -> float:
    """Return the milliseconds that a look-up takes, and check its result."""
    start = time.perf_counter()
    answer = find(key)
    duration = (time.perf_counter() - start) * 1000
    if (answer is None) != (key == NO_SUCH_KEY):
        raise click.ClickException(f"{key} should {'not ' * (key == NO_SUCH_KEY)}be found")
    return duration


def open_log(path: Path) -> float:
    """Return the milliseconds that SQLite takes to open a log and read its schema."""
    start = time.perf_counter()
    with reading(path) as log:
        last_position(log)
    return (time.perf_counter() - start) * 1000


def _both(times: list[float]) -> str:
    """Return the median and the 99th percentile."""
    return f"{median(times):.2f} / {quantiles(times, n=100, method='inclusive')[-1]:.2f}"


def look_ups(kind: str, folder: Folder, times: int) -> list[object]:
    """Return a row of the table: the times of look-ups with and without an answer."""
    hits = [look_up(key) for key in folder.keys(times)]
    misses = [look_up(NO_SUCH_KEY) for _ in range(times)]
    openings = [open_log(folder.log) for _ in range(times)]
    return [folder.entries, kind, *map(_both, (hits, misses, openings))]


def updates(folder: Folder, new: int, times: int) -> list[object]:
    """Return a row of the table: the times of look-ups after a number of new turns."""
    rng = random.Random(new)
    durations = []
    for _ in range(times):
        add_with_messages(folder.log, (turn() for _ in range(new)), rng)
        durations.append(look_up(NO_SUCH_KEY))
    return [new, _both(durations)]


def fill(path: Path, entries: int) -> None:
    """Add a number of made-up entries to an index."""
    rng = random.Random(entries)
    with Index(path) as index, index.writing():
        position = index.position()
        assert position
        index.add([(rng.randbytes(32).hex(), "x" * 26) for _ in range(entries)], position)


@click.command()
@click.option("--turns", "number", default=100_000, show_default=True, help="Turns in the log")
@click.option("--filled", default=1_000_000, show_default=True, help="Answers in a full index")
@click.option("--times", default=1000, show_default=True, help="Look-ups of each kind")
def main(number: int, filled: int, times: int) -> None:
    """Measure the cache and print the times."""
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ):
        rows = []
        for size in (1000, number):
            folder = Folder(Path(name) / str(size))
            folder.path.mkdir(exist_ok=True)
            folder.use()
            make_log(folder.log, size, messages=True)
            seconds = look_up(NO_SUCH_KEY) / 1000
            rows.append(look_ups(f"log of {size:,} turns", folder, times))
        entries, size = folder.entries, folder.index.stat().st_size
        later = [updates(folder, new, max(times // 20, 2)) for new in (1, 100)]
        fill(folder.index, filled - folder.entries)
        rows.append(look_ups("the same, index filled up", folder, times))
        full = folder.index.stat().st_size
    click.echo("Milliseconds: p50 / p99\n")
    headers = ["answers", "in", "found", "not found", "of which opening the log"]
    click.echo(tabulate(rows, headers, intfmt=","))
    click.echo(
        f"\nThe index of {number:,} turns was built in {seconds:.1f} s and takes "
        f"{size / 1e6:.1f} MB for {entries:,} answers; {filled:,} take {full / 1e6:.1f} MB.\n"
    )
    click.echo(tabulate(later, ["new turns", "look-up after them"], intfmt=","))


if __name__ == "__main__":
    main()
