"""The time of a schema's token mask."""

from __future__ import annotations

from llm_tiered.bench import masks
from llm_tiered.json_schema import validate


def test_answer_fits_schema() -> None:
    """The answer that masks are timed with fits the schema, except for its length."""
    schema = masks.SCHEMA["properties"]["exercises"]["items"]
    validate(f"{masks.ANSWER}]}}", {"properties": {"exercises": {"items": schema}}})


def test_wide_model() -> None:
    """The mask is timed with 151,936 tokens for no model in particular."""
    mean, p99 = masks.of_wide_model(1)
    assert (mean.name, p99.name, mean.unit) == ("mask_mean", "mask_p99", "µs")
    assert (mean.note, mean.model) == ("151,936 wide", None)
    assert 0 < mean.value < p99.value
