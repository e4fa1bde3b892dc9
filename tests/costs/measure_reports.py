"""Measure reports on a log of any size: `python -m tests.costs.measure_reports --turns 1000000`.

How long it takes to make its sums for the first time, to bring them up to date after one new turn
and after a change of an old one, to make the reports of the dashboard's page, and how long the
same takes row by row. Times are of the processor, so that other processes matter less.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import datetime, timezone
from statistics import median
from typing import TYPE_CHECKING

import click

from llm_tiered.costs import upkeep
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.periods import ALWAYS
from llm_tiered.costs.savings import savings_reports
from llm_tiered.dashboard.figures import GROUPINGS
from llm_tiered.paths import log_path, sums_folder
from tests.costs import row_by_row
from tests.make_log import CLOUD, add, make_log, turn

if TYPE_CHECKING:
    from collections.abc import Callable

COMPARISON = Comparison(CLOUD)


def timed(call: Callable[[], object], before: Callable[[], object] = bool, times: int = 1) -> str:
    """Return the median of the milliseconds, and the most; `before` is not in them."""
    taken = []
    for _ in range(times):
        before()
        started = time.process_time()
        call()
        taken.append((time.process_time() - started) * 1000)
    return f"{median(taken):,.1f} ms, at most {max(taken):,.1f} ms"


@click.command()
@click.option("--turns", default=100_000, show_default=True, help="Turns in the log")
def main(turns: int) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LLM_USER_PATH"] = home
        log = log_path()
        make_log(log, turns)

        def reports() -> object:
            return savings_reports(log, COMPARISON, GROUPINGS)

        def up_to_date() -> object:
            return upkeep.with_sums(log, bool)

        def one_more() -> None:
            add(log, [turn(datetime.now(timezone.utc))])

        def change() -> None:
            with closing(sqlite3.connect(log)) as database, database:
                database.execute("update turns set duration_ms = 7 where rowid = 1000")

        click.echo(f"{turns:,} turns, the first time: {timed(reports)}")
        [file] = sums_folder().glob("*.db")
        click.echo(f"size of the sums: {file.stat().st_size / 1e6:.1f} MB")
        click.echo(f"nothing new: {timed(up_to_date, times=20)}")
        click.echo(f"one new turn: {timed(up_to_date, one_more, times=20)}")
        routine, upkeep.ROUTINE = upkeep.ROUTINE, 1
        click.echo(f"one new turn, no routine: {timed(up_to_date, one_more, times=20)}")
        upkeep.ROUTINE = routine
        click.echo(f"an old turn changed: {timed(up_to_date, change)}")
        click.echo(f"the page's reports: {timed(reports, times=5)}")
        now = datetime.now(timezone.utc)
        whole = timed(lambda: row_by_row.facts(log, COMPARISON, GROUPINGS, period=ALWAYS, now=now))
        click.echo(f"row by row: {whole}")


if __name__ == "__main__":
    main()
