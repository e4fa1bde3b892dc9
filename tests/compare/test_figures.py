"""The figures of a comparison as text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from llm_tiered.compare.figures import cells, distinct_answers, headers, notes
from llm_tiered.compare.runs import Column
from llm_tiered.evaluation.tiers import TierAnswer


def answer(**fields: Any) -> TierAnswer:
    """An answer of one second that cost nothing."""
    defaults: dict[str, Any] = {"model": "mlx/a", "text": "Hello", "cost": Decimal(0)}
    defaults |= {"ms": 1000, "ttft_ms": 250, "input_tokens": 5, "output_tokens": 20}
    return TierAnswer(**defaults | fields)


def column(*answers: TierAnswer, failures: Any = (), schema_mistakes: Any = ()) -> Column:
    """The results of a tier."""
    return Column("small", "mlx/a", [*answers], [*failures], [*schema_mistakes])


def test_one_run() -> None:
    """One run has figures without a spread."""
    assert headers([column(answer())]) == [
        *("time", "first token", "tokens/s", "tokens in", "tokens out", "cost")
    ]
    assert cells(column(answer())) == ["1.00 s", "0.25 s", "20.0", "5", "20", "$0"]


def test_several_runs() -> None:
    """Several runs have medians, with minimum and maximum if they differ."""
    slow, normal = answer(ms=2000, output_tokens=1500), answer()
    assert cells(column(slow, normal, answer(ms=4000, ttft_ms=251))) == [
        "2.00 s (1.00 to 4.00)",
        "0.25 s",
        "20.0 (5.0 to 750.0)",
        "5",
        "20 (20 to 1,500)",
        "$0",
    ]


def test_unknown() -> None:
    """A figure that is unknown for one run is unknown."""
    strange = answer(ttft_ms=None, input_tokens=None, output_tokens=None, cost=None)
    assert cells(column(strange, answer())) == ["1.00 s", *5 * ["unknown"]]


def test_cost() -> None:
    """The cost of an answer is the exact median."""
    costs = [answer(cost=Decimal(text)) for text in ("0.1", "0.3", "0.2")]
    assert column(*costs).cost == Decimal("0.2")


@pytest.mark.parametrize(
    ("schema_mistakes", "expected"),
    [([None], "valid"), (["is not JSON"], "invalid"), ([None, "x", None], "2 of 3 valid")],
)
def test_validity(schema_mistakes: list[str | None], expected: str) -> None:
    """With a schema there is one more figure: how many answers fit it."""
    with_schema = column(*[answer()] * len(schema_mistakes), schema_mistakes=schema_mistakes)
    assert headers([column(), with_schema])[-1] == "JSON"
    assert cells(with_schema)[-1] == expected


def test_notes() -> None:
    """Notes are failures and schema mistakes, each reason once."""
    both = column(answer(), failures=["no key", "no key"], schema_mistakes=["is not JSON"])
    assert notes(both) == [
        "2 of 3 runs without an answer",
        "no answer: no key",
        "the answer is not JSON",
    ]
    assert notes(column(failures=["no key"])) == ["no answer: no key"]
    assert cells(column(failures=["no key"])) == []


def test_distinct_answers() -> None:
    """Equal answers are listed once."""
    assert distinct_answers(column(answer(), answer(text="Hi"), answer())) == ["Hello", "Hi"]
