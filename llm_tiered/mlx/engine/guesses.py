"""Which tokens to guess from the prompt, and whether guessing pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..tokens.lookup import PromptLookup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pass_costs import PassCosts

# Tokens guessed at once.
COUNTS = (1, 3, 7, 15)

# How many times as fast guesses must make an answer: what is estimated may be wrong.
GAIN = 1.15

# The lengths of a match from which on its guesses are counted apart.
LENGTHS = (2, 4, 8)

# How many guesses an estimate begins with, and what share of these was right. Later ones count for
# more: each lowers the weight of those before it.
BEGINNING, SHARE, DECAY = 2.0, 0.1, 0.95


class HitRates:
    """How often the next token was guessed right, by the length of the match."""

    def __init__(self) -> None:
        self._hits = [0.0] * len(LENGTHS)
        self._counts = [0.0] * len(LENGTHS)

    def add(self, match: int, *, hit: bool) -> None:
        """Take note of a guess."""
        kind = _kind(match)
        self._hits[kind] = DECAY * self._hits[kind] + hit
        self._counts[kind] = DECAY * self._counts[kind] + 1

    def kept(self, match: int, count: int) -> float:
        """Return how many of the next tokens are expected to be guessed right in a row."""
        rates = self._rates()
        total, likelihood = 0.0, 1.0
        for length in range(match, match + count):
            likelihood *= rates[_kind(length)]
            total += likelihood
        return total

    def _rates(self) -> list[float]:
        """Return the share of each length; what is known of shorter ones is where it begins."""
        rates, share = [], SHARE
        for hits, count in zip(self._hits, self._counts, strict=True):
            share = (hits + BEGINNING * share) / (count + BEGINNING)
            rates.append(share)
        return rates


def _kind(match: int) -> int:
    return sum(match >= length for length in LENGTHS[1:])


class LookupGuesses:
    """Guesses from the prompt and the answer so far.

    As long as they don't pay, they are compared with what the model says, and not passed to it.
    With `always`, every guess is.
    """

    def __init__(self, tokens: Sequence[int], costs: PassCosts, *, always: bool = False) -> None:
        self._always = always
        self._costs = costs
        # A long prompt takes a while: it is indexed while the first pass runs.
        self._tokens = tokens
        self._index: PromptLookup | None = None
        self._rates = HitRates()

    @property
    def _lookup(self) -> PromptLookup:
        if self._index is None:
            self._index = PromptLookup(self._tokens)
        return self._index

    def add(self, sampled: Sequence[int], forced: Sequence[int] = ()) -> None:
        """Add the next tokens of the answer, first those that the model had a choice about."""
        lookup = self._lookup
        for token in sampled:
            if lookup.match:
                self._rates.add(lookup.match, hit=token == lookup.next)
            lookup.add([token])
        if forced:
            lookup.add(forced)

    def count(self, certain: int) -> int:
        """Return how many tokens to guess now, in one pass with this many that are certain."""
        match = self._lookup.match
        if not match:
            return 0
        if self._always:
            return COUNTS[-1] if match >= LENGTHS[-1] else COUNTS[-2]
        best, best_gain = 0, GAIN
        for count in COUNTS if 1 + self._rates.kept(match, COUNTS[-1]) > GAIN else ():
            ratio = self._costs.ratio(certain + count, certain)
            if ratio is None:
                continue
            gain = (1 + self._rates.kept(match, count)) / ratio
            if gain > best_gain:
                best, best_gain = count, gain
        return best

    def guess(self, certain: int, most: int) -> list[int]:
        """Return the tokens to guess now, at most this many."""
        return self._lookup.guess(min(self.count(certain), most))
