"""Whether what was learned helps with prompts that are left out."""

from __future__ import annotations

import random

import pytest

from llm_tiered.estimator.features import measure
from llm_tiered.estimator.learning import ENOUGH, FEWEST, Learned, learn
from llm_tiered.estimator.model import shipped
from llm_tiered.estimator.refit import Example, logistic, refit

WORK = ("Who wrote the play {}?", "What is 3 + {} * 12 - 5 = x, if x > 12?")
WORDS = ["green", "old", "small", "tall", "new", "round", "dark", "plain"]


def examples(number: int, chances: tuple[float, float], seed: int = 1) -> list[Example]:
    """Give prompts that fail with these chances: those with words, and those with sums."""
    source = random.Random(seed)
    made = []
    for place in range(number):
        kind = place % 2
        filler = " ".join(["The garden was green."] * source.randrange(6))
        text = f"{filler} {WORK[kind].format(source.choice(WORDS))}"
        failed = float(source.random() < chances[kind])
        made.append(Example(measure(text), f"{text} {place}", failed))
    return made


@pytest.fixture(scope="module")
def learned() -> Learned:
    """What clear examples gave."""
    return learn(examples(80, (0.9, 0.1)), shipped())


def test_better(learned: Learned) -> None:
    """Where the user's prompts are different, the learned coefficients do better."""
    assert learned.verdict == "better"
    assert learned.log_loss is not None
    assert learned.auc is not None
    assert 0 < learned.log_loss.low < learned.log_loss.gain < learned.log_loss.high
    assert learned.log_loss.learned < learned.log_loss.shipped
    assert learned.auc.learned > learned.auc.shipped


def test_fitted_on_all(learned: Learned) -> None:
    """What is handed out is the fit of all examples."""
    assert learned.coefficients == refit(examples(80, (0.9, 0.1)), shipped())
    assert learned.groups == 80


def test_same_again(learned: Learned) -> None:
    """The same examples give the same, in any order."""
    again = examples(80, (0.9, 0.1))
    again.reverse()
    assert learn(again, shipped()).log_loss == pytest.approx(learned.log_loss)


def test_as_the_package_says() -> None:
    """Where the package is right already, little is gained, and never much lost."""
    source = random.Random(2)
    as_shipped = [
        Example(
            example.measured,
            example.group,
            float(source.random() < logistic(example.log_odds(shipped()))),
        )
        for example in examples(120, (0, 0))
    ]
    found = learn(as_shipped, shipped())
    assert found.log_loss is not None
    assert abs(found.log_loss.gain) < 0.03
    assert found.log_loss.low < 0


def test_chance_teaches_nothing() -> None:
    """What is true of a few groups by chance is no better on those left out."""
    verdicts = {
        learn(
            [
                Example(example.measured, f"{place % 12}", example.failed)
                for place, example in enumerate(examples(24, (0.3, 0.35), seed))
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
    """Without a few examples of either kind, nothing is fitted."""
    found = learn(examples(number, chances), shipped())
    assert (found.verdict, found.coefficients, found.log_loss) == (verdict, None, None)


def test_few_but_clear() -> None:
    """With few groups it is taken all the same, where it is clearly better."""
    found = learn(examples(ENOUGH - 6, (1.0, 0.0)), shipped())
    assert found.groups < ENOUGH
    assert found.verdict == "better"


def test_thin_texts() -> None:
    """Texts that say nothing are no examples."""
    thin = [Example(measure("ok"), f"{n}", float(n % 2)) for n in range(60)]
    assert learn(thin, shipped()) == Learned("too few", 0, thin=60)


def test_groups_are_left_out_whole() -> None:
    """What holds only within a group is no help with the others."""
    source = random.Random(4)
    copied = []
    for place, example in enumerate(examples(12, (0.5, 0.5))):
        failed = float(source.random() < 0.5)
        copied += [Example(example.measured, f"{place}", failed)] * 10
    apart = [
        Example(example.measured, f"{number}", example.failed)
        for number, example in enumerate(copied)
    ]
    together, split = learn(copied, shipped()).log_loss, learn(apart, shipped()).log_loss
    assert together is not None
    assert split is not None
    assert together.gain < split.gain
