"""The parts that measure two models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

from llm_tiered.bench import pairs
from llm_tiered.bench.timing import submit
from llm_tiered.mlx.engine.engine import ENGINE
from tests.bench.checking import by_name

if TYPE_CHECKING:
    from llm_tiered.bench.parts import Bench


def test_switch(benches: list[Bench]) -> None:
    """The switch is measured with both models in memory, and with one that replaces the other."""
    resident, *exchange = pairs.switch(*benches)
    assert (resident.name, resident.unit, resident.model) == ("switch", "ms", "mlx/tiny")
    figures = by_name(exchange)
    assert {name: (figure.unit, figure.against) for name, figure in figures.items()} == {
        "exchange": ("s", "no other model"),
        "exchange_memory": ("bytes", "the larger model alone"),
    }
    assert all("mlx/other" in f"{figure.note}" for figure in (resident, *exchange))


def test_exchange_evicts(benches: list[Bench]) -> None:
    """Within the budget of an exchange, each model really evicts the other."""
    one, other = benches
    budget = max(one.memory, other.memory)
    for bench in (other, one):
        submit(bench.model, "Hello", max_tokens=1, budget=budget)
        assert list(ENGINE.resident()) == [bench.subject.model_id]


def test_models_that_do_not_fit_together(benches: list[Bench]) -> None:
    """Two models that do not fit into memory together are only exchanged."""
    one, other = benches
    one.budget = one.memory + other.memory - 1
    names = [figure.name for figure in pairs.switch(one, other)]
    assert names == ["exchange", "exchange_memory"]


def test_overhead(bench: Bench) -> None:
    """The overhead of `tiered` is a difference in milliseconds, and nothing is logged."""
    [figure] = pairs.overhead(bench)
    assert (figure.name, figure.unit, figure.model) == ("tiered", "ms", None)
    assert not (llm.user_dir() / "logs.db").exists()
