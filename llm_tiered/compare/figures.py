"""The figures of a comparison as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..wording import dollars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .runs import Column, Spread


def headers(columns: Sequence[Column]) -> list[str]:
    """Return the names of the figures; "JSON" is included only if there was a schema."""
    names = ["time", "first token", "tokens/s", "tokens in", "tokens out", "cost"]
    return [*names, "JSON"] if any(column.schema_mistakes for column in columns) else names


def cells(column: Column) -> list[str]:
    """Return the figures of a tier: medians, with minimum and maximum if the runs differ."""
    if not column.answers:
        return []
    figures = [
        _spread(column.spread("ms"), lambda ms: f"{ms / 1000:.2f}", " s"),
        _spread(column.spread("ttft_ms"), lambda ms: f"{ms / 1000:.2f}", " s"),
        _spread(column.spread("tokens_per_second"), lambda rate: f"{rate:.1f}"),
        _spread(column.spread("input_tokens"), lambda tokens: f"{tokens:,.0f}"),
        _spread(column.spread("output_tokens"), lambda tokens: f"{tokens:,.0f}"),
        dollars(column.cost),
    ]
    return [*figures, validity(column)] if column.schema_mistakes else figures


def validity(column: Column) -> str:
    """Return how many answers are JSON that fits the schema."""
    valid = column.schema_mistakes.count(None)
    if len(column.schema_mistakes) == 1:
        return "valid" if valid else "invalid"
    return f"{valid} of {len(column.schema_mistakes)} valid"


def notes(column: Column) -> list[str]:
    """Return the failures and schema mistakes of a tier, each of them once."""
    failures = [f"no answer: {reason}" for reason in dict.fromkeys(column.failures)]
    if column.answers and column.failures:
        runs = len(column.answers) + len(column.failures)
        failures = [f"{len(column.failures)} of {runs} runs without an answer", *failures]
    mistakes = dict.fromkeys(mistake for mistake in column.schema_mistakes if mistake)
    return failures + [f"the answer {mistake}" for mistake in mistakes]


def distinct_answers(column: Column) -> list[str]:
    """Return the answers of all runs, each of them once."""
    return list(dict.fromkeys(answer.text for answer in column.answers))


def _spread(spread: Spread | None, as_text: Callable[[float], str], unit: str = "") -> str:
    if spread is None:
        return "unknown"
    middle, low, high = as_text(spread.median), as_text(spread.low), as_text(spread.high)
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"
