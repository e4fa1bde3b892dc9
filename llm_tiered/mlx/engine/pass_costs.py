"""How long a pass of a model takes, by the number of tokens in it."""

from __future__ import annotations

from collections import deque

# The latest times of each number of tokens; the shortest of them counts, which was disturbed least.
LATEST = 8

# Times of one number before they count: the first one includes the compilation of kernels.
ENOUGH = 2


class PassCosts:
    """The times of a model's passes, measured while it answers.

    A pass reads all weights, and has work for each of its tokens besides. With a GPU, several
    tokens take hardly longer than one; on a CPU, they take several times as long.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}
        # Seconds for each further token, from the prefill.
        self._rates: deque[float] = deque(maxlen=LATEST)

    def add(self, tokens: int, seconds: float) -> None:
        """Take note of a pass over this many tokens."""
        self._seconds.setdefault(tokens, deque(maxlen=LATEST)).append(seconds)

    def add_prefill(self, tokens: int, seconds: float) -> None:
        """Take note of a step of a prefill."""
        self._rates.append(seconds / tokens)

    def seconds(self, tokens: int) -> float | None:
        """Return what a pass takes, or None as long as that is unknown.

        What was not measured is estimated from fewer tokens and from the prefill.
        """
        times = self._seconds.get(tokens, ())
        if len(times) >= ENOUGH:
            return min(times)
        fewer = [
            count for count, each in self._seconds.items() if count < tokens and len(each) >= ENOUGH
        ]
        if not fewer or not self._rates:
            return None
        most = max(fewer)
        return min(self._seconds[most]) + (tokens - most) * min(self._rates)

    def ratio(self, tokens: int, to: int = 1) -> float | None:
        """Return how many times as long a pass takes as one over `to` tokens, if it is known."""
        this, other = self.seconds(tokens), self.seconds(to)
        return this / max(other, 1e-9) if this and other else None
