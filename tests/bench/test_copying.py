"""Tasks whose answers stand in the prompt."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from llm_tiered.bench import copying
from tests.bench.checking import by_name

if TYPE_CHECKING:
    from llm_tiered.bench.parts import Bench


def test_figures(bench: Bench) -> None:
    """Passes per token with guesses are measured, and decode against the same without."""
    figures = by_name(copying.copying(bench))
    assert list(figures) == ["copying_passes", "copying"]
    assert figures["copying_passes"].value <= 1
    assert figures["copying"].against == "no guesses"


def test_tasks() -> None:
    """There are as many tasks of each kind."""
    kinds = Counter(kind for kind, _, _ in copying.TASKS)
    assert set(kinds) == {"quotation", "extraction", "edit"}
    assert len(set(kinds.values())) == 1
