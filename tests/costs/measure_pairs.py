"""Measure reports on a large log against an earlier commit, in pairs in one run.

    python -m tests.make_log /tmp/big/logs.db --turns 1000000
    git worktree add /tmp/before COMMIT
    python -m tests.costs.measure_pairs /tmp/big/logs.db --against /tmp/before --rounds 0
    python -m tests.costs.measure_pairs /tmp/big/logs.db --against /tmp/before

The sums are made beside the log the first time, which takes half a minute: the run without rounds
does that. Each round starts processes of both commits in turn; medians are printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from statistics import median
from unittest.mock import patch

import click

from tests.dashboard.serving import DATASETTE, LLM, free_port, serving

HERE = Path(__file__).parents[2]

# What a process of either commit measures, in milliseconds: of the clock, and of the processor.
_STEPS = """
import json, sys, time
from datetime import datetime, timezone
from statistics import median
from llm_tiered.costs import upkeep
from llm_tiered.costs.spending import period_starts, read_spent
from llm_tiered.paths import log_path
from tests.make_log import add, turn

day, month = period_starts()

def timed(call, before, times):
    both = []
    for _ in range(times):
        before()
        clock, processor = time.perf_counter(), time.process_time()
        call()
        both.append((time.perf_counter() - clock, time.process_time() - processor))
    return [median(each) * 1000 for each in zip(*both)]

def up_to_date():
    return upkeep.with_sums(log_path(), bool)

def one_more():
    add(log_path(), [turn(datetime.now(timezone.utc))])

def check():
    return read_spent(log_path(), day=day, month=month)

up_to_date(), check()
times = int(sys.argv[1])
names = ("one new turn", "a budget check")
found = [timed(up_to_date, one_more, times), timed(check, bool, times)]
print(json.dumps({
    f"{name}, {kind}": value
    for name, both in zip(names, found) for kind, value in zip(("clock", "processor"), both)
}))
"""


class Commit:
    """The files of a commit, and a user directory whose log is the large one."""

    def __init__(self, files: Path, log: Path, name: str) -> None:
        self.name = name
        self.home = log.with_name(f"home-{name}")
        self.home.mkdir(exist_ok=True)
        link = self.home / "logs.db"
        if not link.is_symlink():
            link.symlink_to(log)
        self.environment = {"PYTHONPATH": str(files), "LLM_USER_PATH": str(self.home)}

    def run(self, *command: str) -> tuple[float, str]:
        """Run a command; return the milliseconds that it took, and what it printed."""
        started = time.perf_counter()
        done = subprocess.run(
            command,
            env=os.environ | self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=True,
        )
        return (time.perf_counter() - started) * 1000, done.stdout

    def steps(self, times: int) -> dict[str, float]:
        """Return what is measured in one process."""
        found: dict[str, float] = json.loads(self.run(sys.executable, "-c", _STEPS, str(times))[1])
        return found

    def page(self, since: str) -> float:
        """Return how long the first page of a new server takes."""
        port = str(free_port())
        # Python imports what is in the folder where it starts, before anything else.
        os.chdir(self.home)
        with (
            patch.dict(os.environ, self.environment),
            serving(self.home, *DATASETTE, str(self.home / "logs.db"), "--port", port) as address,
        ):
            # Starting is not in it, nor what Datasette does for the first page of any kind.
            urllib.request.urlopen(f"{address}/-/versions.json").read()
            started = time.perf_counter()
            urllib.request.urlopen(f"{address}/logs/-/tiered?since={since}").read()
            return (time.perf_counter() - started) * 1000

    def figures(self, times: int) -> dict[str, float]:
        """Return all figures of a round."""
        return {
            "the page of all, first": self.page(""),
            "the page of 30 days, first": self.page("30d"),
            "llm tiered savings": self.run(*LLM, "tiered", "savings")[0],
            "llm tiered --help": self.run(*LLM, "tiered", "--help")[0],
            **self.steps(times),
        }


@click.command()
@click.argument("log", type=click.Path(path_type=Path, exists=True, resolve_path=True))
@click.option("--against", type=click.Path(path_type=Path), required=True, help="Its files")
@click.option("--rounds", default=5, show_default=True, help="Pairs")
@click.option("--times", default=40, show_default=True, help="Of what is done in one process")
def main(log: Path, against: Path, rounds: int, times: int) -> None:
    """Print the medians of both commits."""
    commits = [Commit(against.resolve(), log, "before"), Commit(HERE, log, "now")]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for commit in commits:
        commit.steps(1)
    for _ in range(rounds):
        for commit in commits:
            for name, value in commit.figures(times).items():
                found[name][commit.name].append(value)
    for name, by_commit in found.items():
        values = [f"{each.name} {median(by_commit[each.name]):,.2f} ms" for each in commits]
        click.echo(f"{name}: {', '.join(values)}")


if __name__ == "__main__":
    main()
