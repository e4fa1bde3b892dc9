"""Fitting to examples, close to the shipped coefficients."""

from __future__ import annotations

import random
from math import exp, log

import pytest

from llm_tiered.estimator.features import FEATURES, measure
from llm_tiered.estimator.model import Coefficients, shipped
from llm_tiered.estimator.refit import LEVEL_PENALTY, WEIGHT_PENALTY, Example, refit

EASY, HARD = "Who wrote the play Hamlet?", "What is 3 + 4 * 12 - 5 = x, if x > 12?"
PLACE = FEATURES.index("quantities")


def many(text: str, failed: float, number: int, **fields: float | int) -> list[Example]:
    """Return this number of examples of one text."""
    return [Example(measure(text), f"{text} {n}", failed, **fields) for n in range(number)]  # type: ignore[arg-type]


def penalised(examples: list[Example], coefficients: Coefficients) -> float:
    """Return what the fit minimises: the log-loss plus the penalties."""
    loss = 0.0
    for example in examples:
        probability = 1 / (1 + exp(-example.log_odds(coefficients)))
        loss -= example.weight * (
            example.failed * log(probability) + (1 - example.failed) * log(1 - probability)
        )
    evidence = sum(each.weight * each.measures.evidence for each in examples)
    level = sum(
        each.weight * (each.log_odds(coefficients) - each.log_odds(shipped())) / evidence
        for each in examples
    )
    penalty = level**2 * LEVEL_PENALTY
    for new, old in zip(coefficients.features, shipped().features, strict=True):
        penalty += (new.weight - old.weight) ** 2 * WEIGHT_PENALTY
    return loss + penalty / 2


def test_nothing_to_learn() -> None:
    """Without examples, or with texts that have nothing to judge by, nothing changes."""
    assert refit([], shipped()) == shipped()
    assert refit(many("", 1.0, 50), shipped()) == shipped()


def test_direction() -> None:
    """Failures make a text harder, successes easier, and more examples move it further."""
    before = shipped().log_odds(measure(HARD))
    once, often = (refit(many(HARD, 1.0, number), shipped()) for number in (5, 50))
    assert before < once.log_odds(measure(HARD)) < often.log_odds(measure(HARD))
    assert refit(many(HARD, 0.0, 5), shipped()).log_odds(measure(HARD)) < before


def test_features_of_failures() -> None:
    """A feature of the prompts that fail, but not of the others, gets more weight."""
    learned = refit(many(HARD, 1.0, 40) + many(EASY, 0.0, 40), shipped())
    assert learned.features[PLACE].weight > shipped().features[PLACE].weight + 0.05


def test_optimum() -> None:
    """No change of any coefficient is better, unless it would be negative."""
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
    """Even examples that all say the opposite make no weight negative."""
    learned = refit(many(HARD, 0.0, 300) + many(EASY, 1.0, 300), shipped())
    assert min(feature.weight for feature in learned.features) == 0


def test_weight_of_an_example() -> None:
    """Ten examples of half weight count like five."""
    assert refit(many(HARD, 1.0, 10, weight=0.5), shipped()) == refit(many(HARD, 1.0, 5), shipped())


def test_scale_stays() -> None:
    """Means, spreads, the medium and the step are those of the shipped coefficients."""
    learned = refit(many(HARD, 1.0, 20), shipped())
    assert (learned.medium, learned.step) == (shipped().medium, shipped().step)
    for new, old in zip(learned.features, shipped().features, strict=True):
        assert (new.mean, new.spread) == (old.mean, old.spread)


def test_larger_tier() -> None:
    """A failure of a larger tier means more than one of the small tier, a success less."""
    moved = {
        (failed, highest): refit(many(HARD, failed, 20, highest=highest), shipped()).log_odds(
            measure(HARD)
        )
        for failed in (0.0, 1.0)
        for highest in (4, 7)
    }
    assert moved[1.0, 7] > moved[1.0, 4]
    assert moved[0.0, 7] > moved[0.0, 4]


def test_extra_steps() -> None:
    """If something that came with the prompt made it hard, its text is less to blame."""
    alone, loaded = (
        refit(many(HARD, 1.0, 20, extra_steps=steps), shipped()).log_odds(measure(HARD))
        for steps in (0.0, 3.0)
    )
    assert shipped().log_odds(measure(HARD)) < loaded < alone


@pytest.mark.parametrize("too_hard", [True, False])
def test_labelled_prompt(too_hard: bool) -> None:
    """A prompt, and whether it was too hard, are enough for an example."""
    example = Example.of(HARD, too_hard=too_hard, weight=2.0)
    assert (example.failed, example.weight) == (float(too_hard), 2.0)
    assert example.log_odds(shipped()) == shipped().log_odds(measure(HARD))
