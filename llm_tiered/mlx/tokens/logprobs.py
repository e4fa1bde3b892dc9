"""How likely the tokens of an answer were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sampled:
    """The log-probabilities of the tokens that one step has sampled, one for each request.

    The device puts them together behind the model's next step, which is under way already. Where
    they are read a step later, nothing waits for it.
    """

    def __init__(self, tokens: Sequence[int], logprobs: Sequence[Any]) -> None:
        """Each of `logprobs` is over the whole vocabulary."""
        import mlx.core as mx

        chosen = [row[token] for token, row in zip(tokens, logprobs, strict=True)]
        self._values: Any = mx.stack(chosen).astype(mx.float32)
        self._read: list[float] | None = None
        mx.async_eval(self._values)  # type: ignore[no-untyped-call]  # its stub has no types

    def read(self) -> list[float]:
        """Natural logarithms, in the order of the tokens."""
        if self._read is None:
            self._read = self._values.tolist()
        return self._read


class Logprobs:
    """The log-probabilities of the tokens of one request, as natural logarithms."""

    def __init__(self) -> None:
        self._read: list[float] = []
        self._last: tuple[Sampled, int] | None = None

    def add(self, sampled: Sampled, row: int) -> None:
        """Note a token: that of the request in this row."""
        self.values()
        self._last = (sampled, row)

    def values(self) -> list[float]:
        """One for each token so far."""
        if self._last is not None:
            sampled, row = self._last
            self._read.append(sampled.read()[row])
            self._last = None
        return self._read
