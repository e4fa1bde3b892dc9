"""JSON as Python's own module would read and write it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from llm_tiered import fast_json

VALUES: tuple[Any, ...] = (
    {"text": 'a "word"\n\u2028 ♭ \x00 \x7f', "numbers": [1, -2.5, 1e300, 2**70], "none": None},
    {"half of a pair": "\ud83d", "a pair": "🎵"},
    [True, {}, [], ""],
    [math.inf, -math.inf],
    -math.inf,
)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_there_and_back(value: Any) -> None:
    """What is written is one line, and each of the two modules reads it as it was."""
    line = fast_json.dumps(value)
    assert b"\n" not in line
    assert fast_json.loads(line) == value
    assert json.loads(line) == value
    assert fast_json.loads(json.dumps(value).encode()) == value


def test_not_a_number() -> None:
    """NaN stays what it is."""
    assert math.isnan(fast_json.loads(fast_json.dumps(math.nan)))


@pytest.mark.parametrize("line", [b"", b"{", b'{"a": 1} x', b"\xff", b"nothing"])
def test_no_json(line: bytes) -> None:
    """What is no JSON, a line that is cut off for example, is an error."""
    with pytest.raises(ValueError, match=r"."):
        fast_json.loads(line)
