"""Fitting to examples, near the coefficients that come with the package."""

from __future__ import annotations

import random
from math import exp, log

import pytest

from llm_tiered.estimator.features import FEATURES, measure
from llm_tiered.estimator.model import Coefficients, shipped
from llm_tiered.estimator.refit import LEVEL_PENALTY, WEIGHT_PENALTY, Example, refit

EASY, HARD = "Who wrote the play Hamlet?", "What is 3 + 4 * 12 - 5 = x, if x > 12?"
PLACE = FEATURES.index("numbers")


def many(text: str, failed: float, number: int, **said: float | int) -> list[Example]:
    """Give so many examples of one text."""
    return [Example(measure(text), f"{text} {n}", failed, **said) for n in range(number)]  # type: ignore[arg-type]


def penalised(examples: list[Example], coefficients: Coefficients) -> float:
    """Give what the fit makes least: the surprise, and the distance from what is shipped."""
    surprise = 0.0
    for example in examples:
        chance = 1 / (1 + exp(-example.log_odds(coefficients)))
        surprise -= example.weight * (
            example.failed * log(chance) + (1 - example.failed) * log(1 - chance)
        )
    evidence = sum(each.weight * each.measured.evidence for each in examples)
    level = sum(
        each.weight * (each.log_odds(coefficients) - each.log_odds(shipped())) / evidence
        for each in examples
    )
    moved = level**2 * LEVEL_PENALTY
    for new, old in zip(coefficients.features, shipped().features, strict=True):
        moved += (new.weight - old.weight) ** 2 * WEIGHT_PENALTY
    return surprise + moved / 2


def test_nothing_to_learn() -> None:
    """Without examples, and with texts that say nothing, all stays as it is."""
    assert refit([], shipped()) == shipped()
    assert refit(many("", 1.0, 50), shipped()) == shipped()


def test_direction() -> None:
    """What fails gets harder, what works gets easier, and more examples move it further."""
    before = shipped().log_odds(measure(HARD))
    once, often = (refit(many(HARD, 1.0, number), shipped()) for number in (5, 50))
    assert before < once.log_odds(measure(HARD)) < often.log_odds(measure(HARD))
    assert refit(many(HARD, 0.0, 5), shipped()).log_odds(measure(HARD)) < before


def test_tells_prompts_apart() -> None:
    """A feature of what fails gets more weight than one of what works."""
    learned = refit(many(HARD, 1.0, 40) + many(EASY, 0.0, 40), shipped())
    assert learned.features[PLACE].weight > shipped().features[PLACE].weight + 0.05


def test_best_there_is() -> None:
    """No step to either side of any coefficient makes it better, except below zero."""
    source = random.Random(1)
    words = f'{HARD} {EASY} not false prove (a) the energy 12 "b" if then'.split()
    texts = [" ".join(source.choices(words, k=source.randrange(4, 60))) for _ in range(60)]
    examples = [
        Example(measure(text), text, float("12" in text), source.random(), 7, source.random())
        for text in texts
    ]
    learned = refit(examples, shipped())
    least = penalised(examples, learned)
    for place, feature in enumerate(learned.features):
        for change in (-0.01, 0.01):
            if feature.weight + change >= 0:
                moved = list(learned.features)
                moved[place] = feature._replace(weight=feature.weight + change)
                assert penalised(examples, learned._replace(features=tuple(moved))) > least
    for change in (-0.01, 0.01):
        moved_level = learned._replace(intercept=learned.intercept + change)
        assert penalised(examples, moved_level) > least


def test_no_weight_below_zero() -> None:
    """Not even examples that all say the opposite make a feature one of easy prompts."""
    learned = refit(many(HARD, 0.0, 300) + many(EASY, 1.0, 300), shipped())
    assert min(feature.weight for feature in learned.features) == 0


def test_weight_of_an_example() -> None:
    """An example that counts for half counts half as much."""
    assert refit(many(HARD, 1.0, 10, weight=0.5), shipped()) == refit(many(HARD, 1.0, 5), shipped())


def test_scale_stays() -> None:
    """Means, spreads, and what is medium are those of the package."""
    learned = refit(many(HARD, 1.0, 20), shipped())
    assert (learned.medium, learned.step) == (shipped().medium, shipped().step)
    for new, old in zip(learned.features, shipped().features, strict=True):
        assert (new.mean, new.spread) == (old.mean, old.spread)


def test_larger_tier() -> None:
    """That a larger tier fails says more than that the small one does, and works less."""
    moved = {
        (failed, highest): refit(many(HARD, failed, 20, highest=highest), shipped()).log_odds(
            measure(HARD)
        )
        for failed in (0.0, 1.0)
        for highest in (4, 7)
    }
    assert moved[1.0, 7] > moved[1.0, 4]
    assert moved[0.0, 7] > moved[0.0, 4]


def test_burden() -> None:
    """Where something else made it hard, the text is less to blame."""
    alone, loaded = (
        refit(many(HARD, 1.0, 20, burden=burden), shipped()).log_odds(measure(HARD))
        for burden in (0.0, 3.0)
    )
    assert shipped().log_odds(measure(HARD)) < loaded < alone


@pytest.mark.parametrize("too_hard", [True, False])
def test_labelled_prompt(too_hard: bool) -> None:
    """A prompt and whether it was too hard is enough for an example."""
    example = Example.of(HARD, too_hard=too_hard, weight=2.0)
    assert (example.failed, example.weight) == (float(too_hard), 2.0)
    assert example.log_odds(shipped()) == shipped().log_odds(measure(HARD))
