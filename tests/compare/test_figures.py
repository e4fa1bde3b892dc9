"""Figures of a comparison in words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from llm_tiered.compare import figures
from llm_tiered.compare.runs import Column
from llm_tiered.evaluation.tiers import Answer


def answer(**fields: Any) -> Answer:
    """An answer that took a second and cost nothing."""
    known: dict[str, Any] = {"model": "mlx/a", "text": "Hello", "cost": Decimal(0)}
    known |= {"ms": 1000, "ttft_ms": 250, "input_tokens": 5, "output_tokens": 20}
    return Answer(**known | fields)


def column(*answers: Answer, failures: Any = (), misfits: Any = ()) -> Column:
    """What came of a tier."""
    return Column("small", "mlx/a", [*answers], [*failures], [*misfits])


def test_one_run() -> None:
    """Of one run the figures are its own."""
    assert figures.headers([column(answer())]) == [
        *("time", "first token", "tokens/s", "tokens in", "tokens out", "cost")
    ]
    assert figures.cells(column(answer())) == ["1.00 s", "0.25 s", "20.0", "5", "20", "$0"]


def test_several_runs() -> None:
    """Of several they are medians, with the least and the most where those differ."""
    found = figures.cells(
        column(answer(ms=2000, output_tokens=1500), answer(), answer(ms=4000, ttft_ms=251))
    )
    assert found == [
        "2.00 s (1.00 to 4.00)",
        "0.25 s",
        "20.0 (5.0 to 750.0)",
        "5",
        "20 (20 to 1,500)",
        "$0",
    ]


def test_unknown() -> None:
    """What nobody knows is unknown, also if it is known of some of the runs."""
    strange = answer(ttft_ms=None, input_tokens=None, output_tokens=None, cost=None)
    assert figures.cells(column(strange, answer())) == ["1.00 s", *5 * ["unknown"]]


def test_cost() -> None:
    """The price of an answer is the median, exactly."""
    costs = [answer(cost=Decimal(text)) for text in ("0.1", "0.3", "0.2")]
    assert column(*costs).cost == Decimal("0.2")


@pytest.mark.parametrize(
    ("misfits", "expected"),
    [([None], "valid"), (["is not JSON"], "invalid"), ([None, "x", None], "2 of 3 valid")],
)
def test_validity(misfits: list[str | None], expected: str) -> None:
    """With a schema, there is a column that says how many answers fit it."""
    found = column(*[answer()] * len(misfits), misfits=misfits)
    assert figures.headers([column(), found])[-1] == "JSON"
    assert figures.cells(found)[-1] == expected


def test_notes() -> None:
    """Failures and misfits are told, each reason once."""
    found = column(answer(), failures=["no key", "no key"], misfits=["is not JSON"])
    assert figures.notes(found) == [
        "2 of 3 runs without an answer",
        "no answer: no key",
        "the answer is not JSON",
    ]
    assert figures.notes(column(failures=["no key"])) == ["no answer: no key"]
    assert figures.cells(column(failures=["no key"])) == []


def test_different() -> None:
    """Equal answers are shown once."""
    assert figures.different(column(answer(), answer(text="Hi"), answer())) == ["Hello", "Hi"]
