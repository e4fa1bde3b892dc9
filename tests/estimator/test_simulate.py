"""The simulation of what users gain by learning."""

from __future__ import annotations

import random

import pytest

from llm_tiered.estimator.features import measure
from tests.estimator import fit, simulate
from tests.estimator.questions import Question


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """Questions of six groups; those with arithmetic are hard in some and easy in the others."""
    monkeypatch.setattr(simulate, "USERS", 4)
    monkeypatch.setattr(simulate, "GROUPS", 1)
    source = random.Random(0)
    questions = []
    for group in range(6):
        for number in range(80):
            sums = number % 2 == 0
            text = f"What is {number} + 4 = x, if x > 12?" if sums else f"Who wrote play {number}?"
            small = 0.2 if sums == (group % 2 == 0) else 0.9
            right = float(source.random() < small)
            questions.append(Question("RouteLLM/mmlu", str(group), text, measure(text), right, 1.0))
    return questions


def test_gains(questions: list[Question]) -> None:
    """More answers gain more, at most half of the questions are learned from, and it repeats."""
    gains = list(simulate.gains(questions, fit.fit))
    assert [gain.answers for gain in gains] == [10, 20]
    assert gains[1].learned_log_loss < gains[0].learned_log_loss < gains[0].log_loss
    assert gains[1].users == 1.0
    assert list(simulate.gains(questions, fit.fit)) == gains
