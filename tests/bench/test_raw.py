from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench.raw import Raw

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.bench.home import Subject


def test_answers_like_mlx_lm(subject: Subject) -> None:
    """The model is loaded and generates as many tokens as it may; the times are in order."""
    with Raw(subject.folder) as raw:
        answer = raw.ask("Hello", max_tokens=5, system="Be brief.")
        longer = raw.ask("Hello hello hello", max_tokens=5, system="Be brief.")
    assert answer.tokens == 5
    assert 0 < answer.first < answer.total
    assert answer.rate > 0
    assert answer.peak_memory > 0
    assert longer.prompt_tokens > answer.prompt_tokens


def test_its_thread_ends(subject: Subject) -> None:
    """The model's thread is there for the block, and ends with it."""
    before = set(threading.enumerate())
    with Raw(subject.folder):
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_stops_at_the_next_token(subject: Subject) -> None:
    """An answer ends at its next token once it is told to stop, as it is after Ctrl-C."""
    with Raw(subject.folder) as raw:
        raw.stop()
        assert raw.ask("Hello", max_tokens=1000).tokens == 1


def test_a_model_that_does_not_load(tmp_path: Path) -> None:
    """What mlx_lm says of a folder without a model comes out, and no thread stays behind."""
    before = set(threading.enumerate())
    with pytest.raises(FileNotFoundError), Raw(tmp_path):
        pass
    assert set(threading.enumerate()) == before
