"""What learning is measured to give."""

from __future__ import annotations

import random

import pytest

from llm_tiered.estimator import fit, simulate
from llm_tiered.estimator.data import Question
from llm_tiered.estimator.features import measure


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """Questions of six groups; the sums in them are hard in some and easy in the others."""
    monkeypatch.setattr(simulate, "USERS", 4)
    monkeypatch.setattr(simulate, "GROUPS", 1)
    source = random.Random(0)
    made = []
    for group in range(6):
        for number in range(80):
            sums = number % 2 == 0
            work = f"What is {number} + 4 = x, if x > 12?" if sums else f"Who wrote play {number}?"
            small = 0.2 if sums == (group % 2 == 0) else 0.9
            right = float(source.random() < small)
            made.append(Question("RouteLLM/mmlu", str(group), work, measure(work), right, 1.0))
    return made


def test_gains(questions: list[Question]) -> None:
    """More answers give more, and there are no more than half of the prompts to learn from."""
    found = list(simulate.gains(questions, fit.fit))
    assert [gain.answers for gain in found] == [10, 20]
    assert found[1].learned_log_loss < found[0].learned_log_loss < found[0].log_loss
    assert found[1].users == 1.0


def test_same_again(questions: list[Question]) -> None:
    """The figures are the same each time."""
    assert list(simulate.gains(questions, fit.fit)) == list(simulate.gains(questions, fit.fit))
