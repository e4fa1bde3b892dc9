"""The log-probabilities of the sampled tokens.

They are those before temperature and limits such as top_p. Under a schema, they are relative to the
tokens that it allows, so that a token which it forces has the probability 1.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class TokenLogprob:
    """A token as the bytes of its text, and its log-probability as a natural logarithm.

    `top` are the most likely tokens in its place, the most likely first, if they were asked for.
    """

    token: tuple[int, ...]
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class SampledRow(NamedTuple):
    """One request's place in a step in which several were sampled together."""

    step: SampledStep
    row: int

    def array(self) -> Any:
        """Return the log-probabilities over the whole vocabulary."""
        return self.step.logprobs[self.row]

    def value(self) -> float:
        """Return the log-probability of the token that was sampled."""
        return self.step.values()[self.row]


class SampledStep:
    """The tokens that several requests have sampled together, which is queued here.

    `logprobs` holds a row over the whole vocabulary for each of them.
    """

    def __init__(self, tokens: Any, logprobs: Any) -> None:
        import mlx.core as mx

        self.tokens = tokens
        self.logprobs = logprobs
        values = mx.take_along_axis(logprobs, tokens[:, None], axis=-1)
        # Python has no numbers of bfloat16, and none of float16 before 3.12.
        self._array: Any = values.squeeze(-1).astype(mx.float32)
        self._values: list[float] | None = None
        mx.async_eval(tokens, logprobs, self._array)  # type: ignore[no-untyped-call]  # its stub has no types

    def rows(self) -> list[SampledRow]:
        """Return the place of each request."""
        return [SampledRow(self, row) for row in range(len(self.tokens))]

    def values(self) -> list[float]:
        """Return the log-probabilities of the tokens; they are computed with these."""
        if self._values is None:
            self._values = self._array.tolist()
        return self._values


class StepLogprobs:
    """The log-probabilities of the tokens sampled in one step, of one request or of several.

    `logprobs` holds a row over the whole vocabulary for each token. The device gathers the values
    after the model's next step, which is already queued: read them one step later, and nothing
    has to wait. If the rows are `computed` and in the CPU's memory, they are just read, and so is
    what has been sampled together.
    """

    def __init__(
        self, tokens: Sequence[int], logprobs: Sequence[Any], *, computed: bool = False
    ) -> None:
        import mlx.core as mx

        self._rows = logprobs
        self._values: list[float] | None = None
        if isinstance(logprobs[0], SampledRow):
            self._values = [row.value() for row in logprobs]
            return
        # Python has no numbers of bfloat16, and none of float16 before 3.12.
        readable = logprobs[0].dtype == mx.float32
        if computed and readable and mx.default_device() == mx.Device(mx.cpu):
            rows = zip(tokens, logprobs, strict=True)
            self._values = [memoryview(row)[token] for token, row in rows]
            return
        # A slice is one operation on the device, and an index would be three.
        sampled = [row[token : token + 1] for token, row in zip(tokens, logprobs, strict=True)]
        self._array: Any = mx.concatenate(sampled).astype(mx.float32)
        mx.async_eval(self._array)  # type: ignore[no-untyped-call]  # its stub has no types

    def read(self) -> list[float]:
        """Return the natural logarithms, in the order of the tokens."""
        if self._values is None:
            self._values = self._array.tolist()
        return self._values

    def most_likely(self, row: int, number: int) -> list[tuple[int, float]]:
        """Return the most likely tokens of a row with their logarithms, the most likely first.

        Those that are impossible are left out. The device's results are waited for.
        """
        import mlx.core as mx

        if not number:
            return []
        likely_of = self._rows[row]
        array = likely_of.array() if isinstance(likely_of, SampledRow) else likely_of
        values = array.astype(mx.float32)
        tokens = mx.argpartition(values, -number)[-number:]
        likely: Any = (tokens.tolist(), values[tokens].tolist())
        pairs = zip(*likely, strict=True)
        possible = [(token, value) for token, value in pairs if value > -math.inf]
        return sorted(possible, key=lambda pair: (-pair[1], pair[0]))


class Logprobs:
    """The log-probabilities of one request's tokens, as natural logarithms.

    A token that a schema left no choice about has none.
    """

    def __init__(self) -> None:
        self._values: list[float] = []
        self._latest: tuple[StepLogprobs, int] | None = None

    def add(self, step: StepLogprobs, row: int) -> None:
        """Add a token: the one in this row of the step."""
        self.values()
        self._latest = (step, row)

    def values(self) -> list[float]:
        """Return one value for each token so far that the model had a choice about."""
        if self._latest is not None:
            step, row = self._latest
            self._values.append(step.read()[row])
            self._latest = None
        return self._values


class TextLogprobs:
    """The log-probabilities of tokens whose text has not been passed on yet.

    Places are counted in characters from the beginning of all that the model wrote. A token that
    only begins a character belongs to that character.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, int, TokenLogprob]] = deque()

    def add(self, logprob: TokenLogprob, start: int, end: int) -> None:
        """Add a token whose text is between these places."""
        self._waiting.append((start, end, logprob))

    def take(self, start: int, end: int) -> tuple[TokenLogprob, ...]:
        """Return those of the tokens with any text between these places; forget all before."""
        taken = []
        while self._waiting and self._waiting[0][0] < end:
            first, last, logprob = self._waiting.popleft()
            if last > start or first == last == start:
                taken.append(logprob)
        return tuple(taken)

    def forget(self, end: int) -> None:
        """Forget the tokens whose text ends there or earlier."""
        while self._waiting and self._waiting[0][1] <= end:
            self._waiting.popleft()
