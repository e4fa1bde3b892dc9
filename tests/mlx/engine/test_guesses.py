"""Guesses are made where they pay."""

from __future__ import annotations

import random
from itertools import product

from llm_tiered.mlx.engine.guesses import COUNTS, HitRates, LookupGuesses
from llm_tiered.mlx.engine.pass_costs import PassCosts

SENTENCE = [*range(100, 160)]


def costs(per_token: float) -> PassCosts:
    """Return costs of a device whose passes take this much longer for each token after the first.

    A pass over a single token takes 1.
    """
    costs = PassCosts()
    costs.add_prefill(100, 100 * per_token)
    for tokens in range(1, COUNTS[-1] + 3):
        for _ in range(2):
            costs.add(tokens, 1 + per_token * (tokens - 1))
    return costs


def run(
    prompt: list[int], answer: list[int], per_token: float, *, always: bool = False
) -> tuple[int, float]:
    """Generate an answer: return the passes, and how long they took in passes over one token."""
    guesses = LookupGuesses(prompt, costs(per_token), always=always)
    passes, seconds, said = 0, 0.0, 0
    while said < len(answer):
        guessed = guesses.guess(1, len(answer) - said - 1)
        kept = 0
        while kept < len(guessed) and guessed[kept] == answer[said + kept]:
            kept += 1
        passes, seconds = passes + 1, seconds + 1 + per_token * len(guessed)
        guesses.add(answer[said : said + kept + 1])
        said += kept + 1
    return passes, seconds


def test_copying_pays() -> None:
    """What the prompt says is copied in a few passes, where a pass over several is cheap."""
    passes, seconds = run(SENTENCE, SENTENCE, 0.02)
    assert passes < len(SENTENCE) / 2
    assert seconds < len(SENTENCE) / 2
    assert run(SENTENCE, SENTENCE, 0.02, always=True)[0] <= passes


def test_dear_tokens() -> None:
    """Where each token takes as long as a pass, nothing is guessed, unless that is wanted."""
    assert run(SENTENCE, SENTENCE, 0.95) == (len(SENTENCE), len(SENTENCE))
    assert run(SENTENCE, SENTENCE, 0.95, always=True)[0] < len(SENTENCE) / 4


def test_misses_stop_guesses() -> None:
    """A text that only seems to repeat the prompt takes at most 2 % longer than without guesses."""
    draw = random.Random(1)
    for variety, dear in product((3, 10, 30, 100), (0.01, 0.05, 0.2)):
        prompt, answer = ([draw.randrange(variety) for _ in range(400)] for _ in range(2))
        _, seconds = run(prompt, answer, dear)
        assert seconds < 1.02 * len(answer)


def test_unknown_costs() -> None:
    """As long as it is not known what a pass costs, nothing is guessed."""
    guesses = LookupGuesses(SENTENCE, PassCosts())
    guesses.add(SENTENCE[:30])
    assert guesses.guess(1, 8) == []


def test_forced_tokens_are_no_hits() -> None:
    """What a schema forces says nothing about how often guesses are right."""
    guesses = LookupGuesses(SENTENCE, costs(0.02))
    guesses.add([], SENTENCE[:30])
    assert guesses.guess(1, 8) == []


def test_expected_hits() -> None:
    """After a longer match, at least as many tokens are expected to be right."""
    rates = HitRates()
    assert rates.kept(2, 7) < 1
    for _ in range(20):
        rates.add(2, hit=True)
    assert 1 < rates.kept(2, 2) < rates.kept(8, 7) < 7
    for _ in range(20):
        rates.add(2, hit=False)
    assert rates.kept(2, 2) < 1
