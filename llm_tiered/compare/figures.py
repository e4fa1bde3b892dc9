"""The figures of a comparison in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..wording import dollars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .runs import Column, Spread


def headers(columns: Sequence[Column]) -> list[str]:
    """The names of the figures; JSON only where a schema was given."""
    names = ["time", "first token", "tokens/s", "tokens in", "tokens out", "cost"]
    return [*names, "JSON"] if any(column.misfits for column in columns) else names


def cells(column: Column) -> list[str]:
    """The figures of a tier: medians, with the least and the most where there are several runs."""
    if not column.answers:
        return []
    found = [
        _spread(column.spread("ms"), lambda ms: f"{ms / 1000:.2f}", " s"),
        _spread(column.spread("ttft_ms"), lambda ms: f"{ms / 1000:.2f}", " s"),
        _spread(column.spread("tokens_per_second"), lambda rate: f"{rate:.1f}"),
        _spread(column.spread("input_tokens"), lambda tokens: f"{tokens:,.0f}"),
        _spread(column.spread("output_tokens"), lambda tokens: f"{tokens:,.0f}"),
        dollars(column.cost),
    ]
    return [*found, validity(column)] if column.misfits else found


def validity(column: Column) -> str:
    """How many answers are JSON of the schema."""
    valid = column.misfits.count(None)
    if len(column.misfits) == 1:
        return "valid" if valid else "invalid"
    return f"{valid} of {len(column.misfits)} valid"


def notes(column: Column) -> list[str]:
    """What has to be said of a tier besides its figures."""
    found = [f"no answer: {reason}" for reason in dict.fromkeys(column.failures)]
    if column.answers and column.failures:
        runs = len(column.answers) + len(column.failures)
        found = [f"{len(column.failures)} of {runs} runs without an answer", *found]
    misfits = [misfit for misfit in column.misfits if misfit]
    return found + [f"the answer {misfit}" for misfit in dict.fromkeys(misfits)]


def different(column: Column) -> list[str]:
    """The answers of all runs, each of them once."""
    return list(dict.fromkeys(answer.text for answer in column.answers))


def _spread(spread: Spread | None, shown: Callable[[float], str], unit: str = "") -> str:
    if spread is None:
        return "unknown"
    middle, low, high = shown(spread.median), shown(spread.low), shown(spread.high)
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"
