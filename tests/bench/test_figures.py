"""Figures: medians, ratios, interleaved rounds, and their text."""

from __future__ import annotations

import pytest

from llm_tiered.bench.figures import Figure, Part, as_text, interleave, interleave_warm

PART = Part("part", "mlx/model")


def test_median() -> None:
    """A figure without a baseline is the median of its values."""
    figure = PART.median("name", "ms", [3.0, 100.0, 1.0], "a note")
    assert (figure.value, figure.note, figure.model) == (3.0, "a note", "mlx/model")
    assert [figure.baseline, figure.ratio, figure.quartiles] == [None] * 3


def test_ratio_is_taken_round_by_round() -> None:
    """A machine that slows down changes both medians, but not the ratio."""
    pairs = [(value, 2 * value) for value in (1.0, 10.0, 100.0)]
    figure = PART.paired("name", "ms", pairs, "other")
    assert (figure.value, figure.baseline, figure.against) == (10.0, 20.0, "other")
    assert (figure.ratio, figure.quartiles) == (0.5, (0.5, 0.5))


def test_quartiles_contain_half_of_the_rounds() -> None:
    """One outlier does not change the quartiles."""
    pairs = [(ratio, 1.0) for ratio in (1.0, 1.1, 1.2, 1.3, 50.0)]
    figure = PART.paired("name", "ms", pairs, "other")
    assert figure.quartiles == (1.1, 1.3)


def test_one_round() -> None:
    """A single round has a ratio, which is also both quartiles."""
    figure = PART.paired("name", "ms", [(3.0, 2.0)], "other")
    assert (figure.ratio, figure.quartiles) == (1.5, (1.5, 1.5))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("first_token", "time to first token"),
        ("generation", "decode"),
        ("new_name", "new name"),
    ],
)
def test_label(name: str, label: str) -> None:
    """Figures are shown under the field's usual terms."""
    assert Figure("part", name, "ms", 1.0).label == label


def test_interleave() -> None:
    """Two functions run once in each round, and take turns to be the first."""
    order: list[str] = []

    def note(name: str, number: int) -> str:
        order.append(f"{name}{number}")
        return order[-1]

    pairs = list(interleave(3, lambda n: note("a", n), lambda n: note("b", n)))
    assert order == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert pairs == [("a0", "b0"), ("a1", "b1"), ("a2", "b2")]


def test_warm_up() -> None:
    """A complete warm-up round precedes the others, and its results are dropped."""
    rounds: list[int] = []

    def note(number: int) -> int:
        rounds.append(number)
        return number

    assert interleave_warm(2, note, lambda n: -n) == [(1, -1), (2, -2)]
    assert rounds == [0, 1, 2]


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
    """Values have their unit and about three digits."""
    assert as_text(value, unit) == text
