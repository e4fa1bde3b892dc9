"""How long passes take is measured, and estimated where it was not."""

from __future__ import annotations

import pytest

from llm_tiered.mlx.engine.pass_costs import VALID, PassCosts


def measured(**seconds: float) -> PassCosts:
    """Return costs with two measurements for each number of tokens, and a prefill."""
    costs = PassCosts()
    costs.add_prefill(100, 100 * seconds.pop("prefill", 1.0))
    for name, value in seconds.items():
        for disturbed in (3 * value, value):
            costs.add(int(name.removeprefix("of_")), disturbed)
    return costs


def test_shortest_time_counts() -> None:
    """Times that something else made longer don't count."""
    assert measured(of_1=2.0, of_4=3.0).ratio(4) == 1.5


def test_estimate() -> None:
    """An unknown number of tokens costs as much as fewer, and the prefill's rate for each more."""
    assert measured(of_1=10.0, prefill=0.5).ratio(8) == pytest.approx(1.35)
    assert measured(of_1=10.0, of_4=20.0, prefill=0.5).ratio(8, to=4) == pytest.approx(1.1)


def test_unknown() -> None:
    """Nothing is known before there are two measurements and a prefill."""
    costs = PassCosts()
    costs.add(1, 1.0)
    assert costs.ratio(1) is None
    costs.add(1, 1.0)
    assert costs.ratio(1) == 1
    assert costs.ratio(2) is None


def test_short_prefill() -> None:
    """A prefill of a few tokens is a pass, whose time says little about each further token."""
    costs = measured(of_1=10.0, prefill=0.5)
    for _ in range(2):
        costs.add_prefill(4, 11.0)
    assert costs.ratio(4) == pytest.approx(1.1)
    assert costs.ratio(8) == pytest.approx(1.3)


def test_old_times() -> None:
    """What was disturbed once is tried again after a while."""
    costs = measured(of_1=10.0, of_2=100.0, prefill=0.5)
    assert costs.ratio(2) == 10
    for _ in range(VALID):
        costs.add(1, 10.0)
    assert costs.ratio(2) == pytest.approx(1.05)
