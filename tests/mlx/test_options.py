"""The options of a request to a local model."""

from __future__ import annotations

from typing import Any

import llm
import pytest
from pydantic import ValidationError

from llm_tiered.mlx.options import MlxOptions

INVALID: list[dict[str, Any]] = [
    {"temperature": -0.1},
    {"temperature": 2.1},
    {"max_tokens": 0},
    {"top_p": 0},
    {"top_p": 1.1},
    {"min_p": -0.1},
    {"min_p": 1.1},
    {"top_k": -1},
    {"repetition_penalty": 0},
    {"seed": -1},
    {"seed": 2**64},
    {"stop": ""},
    {"stop": ["a", ""]},
    {"stop": '["a", 1]'},
    {"kv_bits": 3},
    {"nonsense": 1},
]


def is_valid(options: dict[str, Any]) -> bool:
    """Whether the options are accepted."""
    try:
        MlxOptions.model_validate(options)
    except ValidationError:
        return False
    return True


def test_invalid_values() -> None:
    """Values out of range and unknown options are refused."""
    assert [options for options in INVALID if is_valid(options)] == []


def test_invalid_option_of_a_prompt() -> None:
    """A prompt with an invalid option is refused before a model is asked."""
    with pytest.raises(ValidationError):
        llm.get_model("smollm2").prompt("Hello", temperature=-0.1)


@pytest.mark.parametrize(
    ("stop", "stops"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[1", ["[1"]),
        (None, None),
    ],
    ids=str,
)
def test_forms_of_stop(stop: Any, stops: list[str] | None) -> None:
    """Stop strings are a text, a list or a JSON list; text that only looks like JSON is a text."""
    assert MlxOptions(stop=stop).stop == stops


def test_values_within_range() -> None:
    """Limits of a range, 0 and 2**64 - 1 as seeds, and 4 or 8 bits are accepted."""
    valid: list[dict[str, Any]] = [
        {"temperature": 0, "top_p": 1, "min_p": 0, "top_k": 0, "seed": 0, "kv_bits": 4},
        {"temperature": 2, "max_tokens": 1, "min_p": 1, "seed": 2**64 - 1, "kv_bits": 8},
    ]
    assert all(map(is_valid, valid))
