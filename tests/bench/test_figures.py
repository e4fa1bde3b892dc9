from __future__ import annotations

import pytest

from llm_tiered.bench.figures import Measured, as_text, in_turn, warmed_up

MEASURED = Measured("part", "mlx/model")


def test_alone_is_the_median() -> None:
    """A figure by itself is the median of its values, and has nothing beside it."""
    figure = MEASURED.alone("name", "ms", [3.0, 100.0, 1.0], "a note")
    assert (figure.value, figure.note, figure.model) == (3.0, "a note", "mlx/model")
    assert [figure.baseline, figure.ratio, figure.quartiles] == [None] * 3


def test_ratio_is_taken_round_by_round() -> None:
    """A machine that gets slower changes both medians, and no ratio."""
    pairs = [(value, 2 * value) for value in (1.0, 10.0, 100.0)]
    figure = MEASURED.beside("name", "ms", pairs, "other")
    assert (figure.value, figure.baseline, figure.against) == (10.0, 20.0, "other")
    assert (figure.ratio, figure.quartiles) == (0.5, (0.5, 0.5))


def test_quartiles_hold_half_of_the_rounds() -> None:
    """One odd round leaves the quartiles where most of them are."""
    pairs = [(ratio, 1.0) for ratio in (1.0, 1.1, 1.2, 1.3, 50.0)]
    figure = MEASURED.beside("name", "ms", pairs, "other")
    assert figure.quartiles == (1.1, 1.3)


def test_one_round_is_enough() -> None:
    """A single round gives a ratio, and quartiles that say no more."""
    figure = MEASURED.beside("name", "ms", [(3.0, 2.0)], "other")
    assert (figure.ratio, figure.quartiles) == (1.5, (1.5, 1.5))


def test_in_turn_lets_each_be_first() -> None:
    """Two things run once in each round, and neither always has the other's heat behind it."""
    order: list[str] = []

    def note(name: str, number: int) -> str:
        order.append(f"{name}{number}")
        return order[-1]

    pairs = list(in_turn(3, lambda n: note("a", n), lambda n: note("b", n)))
    assert order == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert pairs == [("a0", "b0"), ("a1", "b1"), ("a2", "b2")]


def test_warming_up_does_not_count() -> None:
    """A round before the first is done in full, and its figures are dropped."""
    done: list[int] = []

    def note(number: int) -> int:
        done.append(number)
        return number

    assert warmed_up(2, note, lambda n: -n) == [(1, -1), (2, -2)]
    assert done == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234.5, "tokens/s", "1,234 tokens/s"),
        (21.37, "tokens/s", "21.4 tokens/s"),
        (0.987, "ms", "0.99 ms"),
        (-0.5, "ms", "-0.50 ms"),
        (2_290_000_000, "bytes", "2.29 GB"),
        (121_500_000, "bytes", "122 MB"),
    ],
)
def test_as_text(value: float, unit: str, text: str) -> None:
    """Values are written with their unit and about three digits."""
    assert as_text(value, unit) == text
