"""How likely the tokens of an answer were."""

from __future__ import annotations

from typing import Any

# They are read from the device this many at a time: each reading waits for it.
AT_ONCE = 16


class Logprobs:
    """The log-probabilities of the tokens that were sampled, as natural logarithms."""

    def __init__(self) -> None:
        self._pending: list[Any] = []
        self._read: list[float] = []

    def add(self, token: int, logprobs: Any) -> None:
        """Note a token; `logprobs` is over the whole vocabulary."""
        self._pending.append(logprobs[token])
        if len(self._pending) >= AT_ONCE:
            self.values()

    def values(self) -> list[float]:
        """One for each token so far."""
        import mlx.core as mx

        if self._pending:
            values: Any = mx.stack(self._pending).astype(mx.float32).tolist()
            self._read += values
            self._pending = []
        return self._read
