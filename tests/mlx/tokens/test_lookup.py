"""What followed the same tokens before is what is guessed."""

from __future__ import annotations

import random

from llm_tiered.mlx.tokens.lookup import LONGEST, SHORTEST, PromptLookup


def longest(tokens: list[int]) -> tuple[int, int]:
    """Return the length of the longest match, and where the latest one's continuation begins."""
    best, source = 0, 0
    for end in range(len(tokens) - 1):
        length = 0
        while length <= end and length < LONGEST and tokens[end - length] == tokens[-1 - length]:
            length += 1
        if length >= max(SHORTEST, best):
            best, source = length, end + 1
    return best, source


def test_longest_match() -> None:
    """The guess follows the longest earlier occurrence, the latest of those equally long."""
    draw = random.Random(0)
    for _ in range(200):
        tokens = [draw.randrange(6) for _ in range(draw.randrange(2, 40))]
        lookup = PromptLookup(tokens[:2])
        for token in tokens[2:]:
            lookup.add([token])
        best, source = longest(tokens)
        assert lookup.match == PromptLookup(tokens).match == best
        expected = tokens[source : source + 5] if best else []
        assert lookup.guess(5)[: len(expected)] == expected
        assert lookup.next == (expected[0] if best else None)


def test_repetition() -> None:
    """What repeats itself is guessed to go on."""
    assert PromptLookup([7, 1, 2, 3, 1, 2, 3]).guess(7) == [1, 2, 3, 1, 2, 3, 1]
    assert PromptLookup([5, 5, 5]).guess(3) == [5, 5, 5]


def test_nothing_to_guess() -> None:
    """Without an earlier occurrence of the last two tokens, nothing is guessed."""
    for tokens in ([], [1], [1, 2], [1, 2, 3, 1]):
        lookup = PromptLookup(tokens)
        assert (lookup.match, lookup.next, lookup.guess(4)) == (0, None, [])
