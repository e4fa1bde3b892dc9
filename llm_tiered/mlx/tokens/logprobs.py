"""The log-probabilities of the sampled tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class StepLogprobs:
    """The log-probabilities of the tokens sampled in one step, one for each request.

    `logprobs` holds a row over the whole vocabulary for each token. The device gathers the values
    after the model's next step, which is already queued: read them one step later, and nothing
    has to wait.
    """

    def __init__(self, tokens: Sequence[int], logprobs: Sequence[Any]) -> None:
        import mlx.core as mx

        sampled = [row[token] for token, row in zip(tokens, logprobs, strict=True)]
        self._array: Any = mx.stack(sampled).astype(mx.float32)
        self._values: list[float] | None = None
        mx.async_eval(self._array)  # type: ignore[no-untyped-call]  # its stub has no types

    def read(self) -> list[float]:
        """Return the natural logarithms, in the order of the tokens."""
        if self._values is None:
            self._values = self._array.tolist()
        return self._values


class Logprobs:
    """The log-probabilities of one request's tokens, as natural logarithms."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._latest: tuple[StepLogprobs, int] | None = None

    def add(self, step: StepLogprobs, row: int) -> None:
        """Add a token: the one in this row of the step."""
        self.values()
        self._latest = (step, row)

    def add_certain(self) -> None:
        """Add a token that was the only one possible, and so had the probability 1."""
        self.values()
        self._values.append(0.0)

    def values(self) -> list[float]:
        """Return one value for each token so far."""
        if self._latest is not None:
            step, row = self._latest
            self._values.append(step.read()[row])
            self._latest = None
        return self._values
