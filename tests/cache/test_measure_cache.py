"""The script that measures the cache runs and prints plausible figures."""

from __future__ import annotations

import re

from click.testing import CliRunner

from tests.cache import measure_cache


def test_output() -> None:
    """It prints look-ups in three sizes, the index, and look-ups after new turns."""
    options = ["--turns", "200", "--filled", "3000", "--times", "4"]
    result = CliRunner().invoke(measure_cache.main, options, catch_exceptions=False)
    assert result.exit_code == 0
    _, sizes, index, updates = result.output.strip().split("\n\n")
    rows = [re.split(r"  +", line.strip()) for line in sizes.splitlines()[2:]]
    answers = [int(row[0].replace(",", "")) for row in rows]
    assert 700 < answers[0] < 1000
    assert 140 < answers[1] < 200
    assert answers[2] == 3000
    assert re.match(r"The index of 200 turns was built in [\d.]+ s and takes [\d.]+ MB for", index)
    rows += [re.split(r"  +", line.strip()) for line in updates.splitlines()[2:]]
    assert [row[0] for row in rows[3:]] == ["1", "100"]
    for cell in (cell for row in rows for cell in row if "/" in cell):
        p50, p99 = map(float, cell.split(" / "))
        assert 0 < p50 <= p99
