"""The parts that measure one model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench import parts
from llm_tiered.errors import ModelUnavailable
from tests.bench.checking import by_name

if TYPE_CHECKING:
    from llm_tiered.bench.parts import Bench


def test_load(bench: Bench) -> None:
    """Loading has a time and a peak of memory, which includes the weights."""
    figures = by_name(parts.load(bench))
    assert {name: figure.unit for name, figure in figures.items()} == {
        "load": "s",
        "peak_memory": "bytes",
    }
    weights = (bench.subject.folder / "model.safetensors").stat().st_size
    memory = figures["peak_memory"]
    assert memory.baseline is not None
    assert min(memory.value, memory.baseline) > weights


def test_raw(bench: Bench) -> None:
    """Time to first token, prefill, decode and CPU time are compared with mlx_lm alone."""
    figures = by_name(parts.raw(bench))
    assert {name: (figure.unit, figure.against) for name, figure in figures.items()} == {
        "first_token": ("ms", "mlx_lm"),
        "prompt": ("tokens/s", "mlx_lm"),
        "generation": ("tokens/s", "mlx_lm"),
        "processor": ("s", "mlx_lm"),
    }
    assert figures["generation"].note == "4 output tokens"


def test_raw_needs_room_for_two(bench: Bench) -> None:
    """If memory is too small for two copies, that is an error, and the machine does not swap."""
    bench.budget = 2 * bench.memory - 1
    with pytest.raises(ModelUnavailable, match="two copies of the model need"):
        parts.raw(bench)


def test_batch(bench: Bench) -> None:
    """Concurrent prompts are compared with the same number of sequential ones."""
    figure = by_name(parts.batch(bench))["batch"]
    assert (figure.against, figure.note, figure.unit) == ("sequential", "2 prompts", "tokens/s")


def test_schema(bench: Bench) -> None:
    """Decode with a schema is compared with none; the mask is timed with the model's vocabulary."""
    figures = by_name(parts.schema(bench))
    assert figures["schema"].against == figures["schema_processor"].against == "no schema"
    assert figures["mask_mean"].note == figures["mask_p99"].note
    assert str(figures["mask_mean"].note).endswith(" wide")
    assert figures["mask_mean"].value < figures["mask_p99"].value


def test_chat(bench: Bench) -> None:
    """Turns 2 and 3 of a chat of about 600 tokens have most of them in the KV cache."""
    bench.plan = replace(bench.plan, runs=1)
    figures = by_name(parts.chat(bench))
    assert list(figures) == ["turn_2", "turn_3"]
    prompt, _, cache = str(figures["turn_3"].note).partition(", ")
    total, cached = int(prompt.split()[0]), int(cache.split()[0])
    assert 500 < total < 800
    assert cached > 0.8 * total
    assert figures["turn_3"].against == "no KV cache"


def test_plan(bench: Bench) -> None:
    """The batch and the answers have the sizes in the plan."""
    bench.plan = replace(bench.plan, batch=3, tokens=5, runs=1)
    assert parts.batch(bench)[0].note == "3 prompts"
    assert by_name(parts.raw(bench))["generation"].note == "5 output tokens"
