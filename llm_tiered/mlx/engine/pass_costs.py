"""How long a pass of a model takes, by the number of tokens in it."""

from __future__ import annotations

from collections import deque

# The latest times of each number of tokens; the shortest of them counts, which was disturbed least.
LATEST = 8

# Times of one number before they count: the first one includes the compilation of kernels.
ENOUGH = 2

# Passes after which the times of a number don't count any more, if it has not come up again.
VALID = 512

# A prefill of fewer tokens is a pass like others.
PREFILL = 32


class PassCosts:
    """The times of a model's passes, measured while it answers.

    A pass reads all weights, and has work for each of its tokens besides. With a GPU, several
    tokens take hardly longer than one; on a CPU, they take several times as long.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}
        # The number of passes, and which was the latest over each number of tokens.
        self._passes = 0
        self._measured: dict[int, int] = {}
        # Seconds for each token of a prefill.
        self._rates: deque[float] = deque(maxlen=LATEST)

    def add(self, tokens: int, seconds: float) -> None:
        """Take note of a pass over this many tokens."""
        self._seconds.setdefault(tokens, deque(maxlen=LATEST)).append(seconds)
        self._passes += 1
        self._measured[tokens] = self._passes

    def add_prefill(self, tokens: int, seconds: float) -> None:
        """Take note of a step of a prefill."""
        if tokens < PREFILL:
            self.add(tokens, seconds)
        else:
            self._rates.append(seconds / tokens)

    def seconds(self, tokens: int) -> float | None:
        """Return what a pass takes, or None as long as that is unknown.

        What was not measured is estimated from fewer tokens and from the prefill.
        """
        if self._is_measured(tokens):
            return min(self._seconds[tokens])
        fewer = [count for count in self._seconds if count < tokens and self._is_measured(count)]
        if not fewer or not self._rates:
            return None
        most = max(fewer)
        return min(self._seconds[most]) + (tokens - most) * min(self._rates)

    def ratio(self, tokens: int, to: int = 1) -> float | None:
        """Return how many times as long a pass takes as one over `to` tokens, if it is known."""
        this, other = self.seconds(tokens), self.seconds(to)
        return this / max(other, 1e-9) if this and other else None

    def _is_measured(self, tokens: int) -> bool:
        times = self._seconds.get(tokens, ())
        return len(times) >= ENOUGH and self._passes - self._measured[tokens] < VALID
