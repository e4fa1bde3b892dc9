"""Checks that all figures of a model must pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_tiered.bench.figures import Figure


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    """The figures of the tiny model by their names, all of them positive and consistent."""
    for figure in figures:
        assert figure.model == "mlx/tiny"
        assert figure.value > 0
        if figure.against is not None:
            assert figure.baseline is not None
            assert figure.ratio is not None
            assert figure.quartiles is not None
            assert figure.baseline > 0
            assert 0 < figure.quartiles[0] <= figure.ratio <= figure.quartiles[1]
    return {figure.name: figure for figure in figures}
