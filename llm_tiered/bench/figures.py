"""Figures: medians over rounds, most of them with a baseline from the same rounds."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

# The names of figures in tables and plots, where they differ.
_LABELS = {
    "load": "cold start to first token",
    "first_token": "time to first token",
    "prompt": "prefill",
    "generation": "decode",
    "processor": "CPU time",
    "batch": "batched decode",
    "schema": "decode with a schema",
    "schema_processor": "CPU time with a schema",
    "schemas": "decode with real-world schemas",
    "schemas_passes": "passes with real-world schemas",
    "copying": "decode of copied text",
    "copying_passes": "passes for copied text",
    "mask_mean": "schema mask, mean",
    "mask_p99": "schema mask, p99",
    "turn_2": "turn 2, time to first token",
    "turn_3": "turn 3, time to first token",
    "warm": "prompt, model in the engine",
    "warm_loaded": "prompt, model in the engine",
    "warm_turn_3": "turn 3 on the command line",
    "engine_start": "start of the engine",
    "engine_memory": "memory of the engine",
    "engine_idle": "CPU time of an idle engine",
    "engine_first_token": "engine, time to first token",
    "engine_processor": "engine, CPU time",
    "serve": "streams",
    "serve_first_token": "streams, time to first token",
    "serve_slowest": "streams, slowest client",
    "switch": "model switch",
    "exchange": "model exchange, time to first token",
    "exchange_memory": "model exchange, peak memory",
    "tiered": "overhead of tiered",
    "endpoint_first_token": "overhead of a server's tier",
    "endpoint_token": "overhead of a server's tier",
    "endpoint_rows": "rows on a server",
}


@dataclass(frozen=True)
class Figure:
    """A figure of one part of the bench, of one model or of the plugin.

    `value` is the median over all rounds, unless the name says otherwise. With a baseline,
    `baseline` is the median of what `against` names, and `ratio` the median of value divided by
    baseline in the same round, with the first and third of its `quartiles`. Units are s, ms, µs,
    bytes and tokens/s.
    """

    part: str
    name: str
    unit: str
    value: float
    model: str | None = None
    note: str | None = None
    against: str | None = None
    baseline: float | None = None
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """The name to show."""
        return _LABELS.get(self.name, self.name.replace("_", " "))


@dataclass(frozen=True)
class Failure:
    """A part that could not be measured, and why."""

    part: str
    model: str | None
    error: str


@dataclass(frozen=True)
class Part:
    """A part of the bench and the model it measures, which all of its figures name."""

    name: str
    model: str | None = None

    def median(
        self, name: str, unit: str, values: Sequence[float], note: str | None = None
    ) -> Figure:
        """Return the median of the values."""
        return Figure(self.name, name, unit, median(values), self.model, note)

    def paired(
        self,
        name: str,
        unit: str,
        pairs: Sequence[tuple[float, float]],
        against: str,
        note: str | None = None,
    ) -> Figure:
        """Return the medians of the values, of their baselines, and of the ratios between them."""
        values, baselines = zip(*pairs, strict=True)
        ratios = [value / max(baseline, 1e-9) for value, baseline in pairs]
        low, _, high = quantiles(ratios, n=4, method="inclusive") if ratios[1:] else ratios * 3
        return Figure(
            self.name,
            name,
            unit,
            median(values),
            self.model,
            note,
            against,
            median(baselines),
            median(ratios),
            (low, high),
        )


def interleave(
    rounds: int, one: Callable[[int], T], other: Callable[[int], T]
) -> Iterator[tuple[T, T]]:
    """Run two functions in each round, in alternating order; yield their results in pairs."""
    for number in range(rounds):
        if number % 2:
            second = other(number)
            yield one(number), second
        else:
            first = one(number)
            yield first, other(number)


def interleave_warm(
    rounds: int, one: Callable[[int], T], other: Callable[[int], T]
) -> list[tuple[T, T]]:
    """Do the same after a warm-up round, in which a GPU compiles its kernels.

    All rounds must have the same sizes, or a GPU compiles again.
    """
    return list(interleave(rounds + 1, one, other))[1:]


def as_text(value: float, unit: str) -> str:
    """Return a value with its unit, rounded to about three digits."""
    if unit == "bytes":
        value, unit = (value / 1e9, "GB") if value >= 1e9 else (value / 1e6, "MB")
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
