"""The baseline: a model run by mlx_lm alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench.baseline import MlxLmBaseline

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.bench.home import Subject


def test_answer(subject: Subject) -> None:
    """The baseline generates as many tokens as allowed, and times them."""
    with MlxLmBaseline(subject.folder) as baseline:
        answer = baseline.ask("Hello", max_tokens=5, system="Be brief.")
        longer = baseline.ask("Hello hello hello", max_tokens=5, system="Be brief.")
    assert answer.output_tokens == 5
    assert 0 < answer.ttft < answer.total
    assert answer.decode_rate > 0
    assert answer.peak_memory > 0
    assert longer.prompt_tokens > answer.prompt_tokens


def test_thread(subject: Subject) -> None:
    """The thread of the model ends with the block."""
    before = set(threading.enumerate())
    with MlxLmBaseline(subject.folder):
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_stop(subject: Subject) -> None:
    """After `stop`, as after Ctrl-C, an answer ends at its next token."""
    with MlxLmBaseline(subject.folder) as baseline:
        baseline.stop()
        assert baseline.ask("Hello", max_tokens=1000).output_tokens == 1


def test_model_that_does_not_load(tmp_path: Path) -> None:
    """A folder without a model raises the error of mlx_lm, and leaves no thread."""
    before = set(threading.enumerate())
    with pytest.raises(FileNotFoundError), MlxLmBaseline(tmp_path):
        pass
    assert set(threading.enumerate()) == before
