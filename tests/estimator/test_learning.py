"""Learned coefficients, measured on held-out prompts."""

from __future__ import annotations

import random

import pytest

from llm_tiered.estimator.features import measure
from llm_tiered.estimator.learning import ENOUGH, FEWEST, LearningResult, learn
from llm_tiered.estimator.measures import logistic
from llm_tiered.estimator.model import shipped
from llm_tiered.estimator.refit import Example, refit

WORK = ("Who wrote the play {}?", "What is 3 + {} * 12 - 5 = x, if x > 12?")
WORDS = ["green", "old", "small", "tall", "new", "round", "dark", "plain"]


def examples(number: int, chances: tuple[float, float], seed: int = 1) -> list[Example]:
    """Return prompts about words and prompts with arithmetic, which fail with these chances."""
    source = random.Random(seed)
    result = []
    for place in range(number):
        kind = place % 2
        filler = " ".join(["The garden was green."] * source.randrange(6))
        text = f"{filler} {WORK[kind].format(source.choice(WORDS))}"
        failed = float(source.random() < chances[kind])
        result.append(Example(measure(text), f"{text} {place}", failed))
    return result


@pytest.fixture(scope="module")
def learned() -> LearningResult:
    """The result of clear examples."""
    return learn(examples(80, (0.9, 0.1)), shipped())


def test_better(learned: LearningResult) -> None:
    """If the user's prompts are different, the learned coefficients do better."""
    assert learned.verdict == "better"
    assert learned.log_loss is not None
    assert learned.auc is not None
    assert 0 < learned.log_loss.low < learned.log_loss.gain < learned.log_loss.high
    assert learned.log_loss.learned < learned.log_loss.shipped
    assert learned.auc.learned > learned.auc.shipped


def test_fitted_on_all(learned: LearningResult) -> None:
    """The coefficients are fitted to all examples."""
    assert learned.coefficients == refit(examples(80, (0.9, 0.1)), shipped())
    assert learned.groups == 80


def test_any_order(learned: LearningResult) -> None:
    """The order of the examples makes no difference."""
    again = examples(80, (0.9, 0.1))
    again.reverse()
    assert learn(again, shipped()).log_loss == pytest.approx(learned.log_loss)


def test_shipped_coefficients_are_right() -> None:
    """If the shipped coefficients are right already, little is gained or lost."""
    source = random.Random(2)
    as_shipped = [
        Example(
            example.measures,
            example.group,
            float(source.random() < logistic(example.log_odds(shipped()))),
        )
        for example in examples(120, (0, 0))
    ]
    result = learn(as_shipped, shipped())
    assert result.log_loss is not None
    assert abs(result.log_loss.gain) < 0.03
    assert result.log_loss.low < 0


def test_chance_teaches_nothing() -> None:
    """What holds for a few groups by chance is not accepted as better."""
    verdicts = {
        learn(
            [
                Example(example.measures, f"{place % 12}", example.failed)
                for place, example in enumerate(examples(24, (0.4, 0.45), seed))
            ],
            shipped(),
        ).verdict
        for seed in range(4)
    }
    assert "better" not in verdicts


@pytest.mark.parametrize(
    ("number", "chances", "verdict"),
    [
        (0, (0.5, 0.5), "too few"),
        (FEWEST, (0.5, 0.5), "too few"),
        (60, (1.0, 1.0), "one kind"),
        (60, (0.0, 0.0), "one kind"),
    ],
)
def test_too_few(number: int, chances: tuple[float, float], verdict: str) -> None:
    """Without a few good and a few bad answers, nothing is fitted."""
    result = learn(examples(number, chances), shipped())
    assert (result.verdict, result.coefficients, result.log_loss) == (verdict, None, None)


def test_few_but_clear() -> None:
    """With few groups, a fit is still accepted if it is clearly better."""
    result = learn(examples(ENOUGH - 6, (1.0, 0.0)), shipped())
    assert result.groups < ENOUGH
    assert result.verdict == "better"


def test_thin_texts() -> None:
    """Texts with too little to judge by are left out."""
    thin = [Example(measure("ok"), f"{n}", float(n % 2)) for n in range(60)]
    assert learn(thin, shipped()) == LearningResult("too few", 0, thin=60)


def test_groups_are_held_out_whole() -> None:
    """What holds only within a group does not help with other groups."""
    source = random.Random(4)
    copied = []
    for place, example in enumerate(examples(12, (0.5, 0.5))):
        failed = float(source.random() < 0.5)
        copied += [Example(example.measures, f"{place}", failed)] * 10
    apart = [
        Example(example.measures, f"{number}", example.failed)
        for number, example in enumerate(copied)
    ]
    together, split = learn(copied, shipped()).log_loss, learn(apart, shipped()).log_loss
    assert together is not None
    assert split is not None
    assert together.gain < split.gain
