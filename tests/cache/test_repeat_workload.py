"""The script that simulates a month runs, and its figures are consistent."""

from __future__ import annotations

import random

from click.testing import CliRunner

from tests.cache import repeat_workload


def test_output() -> None:
    """Every repeated request is answered by the cache, and only the plans cost anything."""
    result = CliRunner().invoke(repeat_workload.main, ["--share", "0.06"], catch_exceptions=False)
    assert result.exit_code == 0
    table, summary = result.output.strip().split("\n\n")
    rows = {name: cells for name, *cells in map(str.split, table.splitlines()[2:])}
    assert list(rows) == [*(work.task for work in repeat_workload.MONTH), "together"]
    for requests, distinct, cached, *_ in rows.values():
        assert int(cached) == int(requests) - int(distinct)
    assert int(rows["together"][0]) == 1 + 3 + 12 + 30
    assert int(rows["together"][2]) > 0
    assert rows["together"][-1] == rows["curriculum_planning"][-1] != "$0"
    assert {rows[work.task][-1] for work in repeat_workload.MONTH[1:]} == {"$0"}
    assert summary.startswith("Saved against all in the cloud: $0.")


def test_the_same_month() -> None:
    """The same seed gives the same month, and another seed a different one."""
    months = [repeat_workload.month(random.Random(seed), 0.1) for seed in (1, 1, 2)]
    assert months[0] == months[1] != months[2]
