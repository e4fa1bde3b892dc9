"""The lines between a process and its engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_tiered.mlx.engine.requests import Started
from llm_tiered.mlx.process import frames, wire
from tests.mlx.engine.client import make_request


def test_lines() -> None:
    """What is written is read again, with its number."""
    request = make_request(Path("/nowhere"), "Hello\nthere")
    line = frames.question(3, request, 60.0)
    assert line.count(b"\n") == 1
    number, asked = frames.read_question(line.removesuffix(b"\n"))
    assert (number, asked["keep_warm"]) == (3, 60.0)
    assert wire.load_request(asked["request"]) == request
    assert frames.read_answer(frames.answer(4, Started()).removesuffix(b"\n")) == (4, Started())
    assert frames.read_question(frames.nothing(5).removesuffix(b"\n")) == (5, None)
    assert frames.read_answer(frames.nothing(5).removesuffix(b"\n")) == (5, None)
    assert frames.read_answer(wire.HEARTBEAT.removesuffix(b"\n")) == (frames.NOBODY, None)


@pytest.mark.parametrize("line", [b"", b"nonsense", b"x {}", b"1 {", b"{} 1"], ids=str)
def test_nonsense(line: bytes) -> None:
    """Other lines are an error."""
    for read in (frames.read_question, frames.read_answer):
        with pytest.raises(ValueError, match=r".+"):
            read(line)
