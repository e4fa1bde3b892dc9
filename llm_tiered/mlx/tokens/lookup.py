"""Guesses of the next tokens from what followed the same tokens before (prompt lookup)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# The shortest sequence of tokens whose earlier occurrences are looked up.
SHORTEST = 2

# Token ids are below this: the largest vocabularies have 2**18 tokens.
_BITS = 32

# Earlier occurrences that are compared, and tokens of each.
CANDIDATES, LONGEST = 16, 32


class PromptLookup:
    """The tokens of a prompt and its answer, with an index of where their pairs occurred.

    `match` is how many of the last tokens also stand before the place that guesses come from; 0
    without such a place. The longest match is taken, and of those equally long the latest.
    """

    def __init__(self, tokens: Iterable[int]) -> None:
        self.match = 0
        self._tokens: list[int] = []
        # Where each pair of tokens ends that was indexed last, and the place before each place.
        self._latest: dict[int, int] = {}
        self._before: list[int] = []
        # Where guesses begin.
        self._source = 0
        for token in tokens:
            self._append(token)
        self._find()

    @property
    def next(self) -> int | None:
        """The guess of the next token."""
        return self._tokens[self._source] if self.match else None

    def add(self, tokens: Iterable[int]) -> None:
        """Add the next tokens of the answer."""
        for token in tokens:
            self._append(token)
        self._find()

    def guess(self, count: int) -> list[int]:
        """Return the next tokens, this many if there are any. What repeats itself is repeated."""
        if not self.match:
            return []
        guesses = self._tokens[self._source : self._source + count]
        period = len(self._tokens) - self._source
        while len(guesses) < count:
            guesses.append(guesses[-period])
        return guesses

    def _append(self, token: int) -> None:
        """Add a token; the pair that ends with it is indexed once another one follows."""
        end = len(self._tokens) - 1
        before = -1
        if end > 0:
            pair = self._tokens[end - 1] << _BITS | self._tokens[end]
            before = self._latest.get(pair, -1)
            self._latest[pair] = end
        if end >= 0:
            self._before.append(before)
        self._tokens.append(token)

    def _find(self) -> None:
        """Look for the longest earlier occurrence of the last tokens."""
        self.match = 0
        last = len(self._tokens) - 1
        if last < 1:
            return
        place = self._latest.get(self._tokens[last - 1] << _BITS | self._tokens[last], -1)
        for _ in range(CANDIDATES):
            if place < 0 or self.match >= LONGEST:
                return
            length = self._common(place, last)
            if length > self.match:
                self.match, self._source = length, place + 1
            place = self._before[place]

    def _common(self, one: int, other: int) -> int:
        """Return how many tokens are equal that end at these two places, the lower one first."""
        length = SHORTEST
        tokens = self._tokens
        while length <= one and length < LONGEST and tokens[one - length] == tokens[other - length]:
            length += 1
        return length
