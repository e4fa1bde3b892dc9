"""Guesses of the next tokens from a draft model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tokens.prefix import common_length

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..tokens.structured import Constraint

# Tokens guessed at once.
COUNT = 3


class DraftGuesses:
    """What a smaller model would say next, under the same penalties and the same schema.

    `cache` is the draft model's, and holds all of `tokens` but the last.
    """

    def __init__(
        self,
        model: Any,
        cache: list[Any],
        tokens: Sequence[int],
        *,
        penalties: Sequence[Callable[[Any, Any], Any]],
        constraint: Constraint | None,
    ) -> None:
        self._model = model
        self._cache = cache
        self._known = list(tokens)
        self._cached = len(tokens) - 1
        # The guesses in the cache.
        self._guessed: list[int] = []
        self._penalties = penalties
        self._constraint = constraint

    def add(self, sampled: Sequence[int], forced: Sequence[int] = ()) -> None:
        """Add the next tokens of the answer, first those that the model had a choice about."""
        new = [*sampled, *forced]
        # The last token is always passed to the model: what follows it is the next guess.
        self._forget(min(common_length(self._guessed, new), max(len(new) - 1, 0)))
        self._known += new

    def count(self, certain: int) -> int:
        """Return how many tokens to guess."""
        return COUNT

    def guess(self, certain: int, most: int) -> list[int]:
        """Return the tokens to guess now, at most this many."""
        import mlx.core as mx

        inputs = mx.array(self._known[self._cached :], mx.uint32)
        state = self._constraint.state if self._constraint else None
        guesses: list[Any] = []
        for _ in range(min(COUNT, most)):
            inputs = self._next(inputs, guesses)
            if self._constraint:
                self._constraint.accept(inputs.tolist())
            guesses.append(inputs)
        if self._constraint and state:
            self._constraint.restore(state)
        self._cached = len(self._known)
        tokens: Any = mx.concatenate(guesses).tolist()
        self._guessed = tokens[:-1]
        return list(tokens)

    def close(self) -> None:
        """Take the guesses out of the cache."""
        self._forget(0)

    def _next(self, inputs: Any, guesses: list[Any]) -> Any:
        """Return the most likely token after these inputs, the last of which are the guesses."""
        import mlx.core as mx

        logits = self._model(inputs[None], cache=self._cache)[:, -1]
        if self._penalties:
            seen = mx.concatenate([mx.array(self._known, mx.uint32), *guesses])
            for penalty in self._penalties:
                logits = penalty(seen, logits)
        if self._constraint:
            logits = self._constraint.mask(logits)
        return mx.argmax(logits, axis=-1).astype(mx.uint32)

    def _forget(self, kept: int) -> None:
        """Take all guesses but the first few out of the cache."""
        surplus = len(self._guessed) - kept
        for layer in self._cache if surplus else ():
            layer.trim(surplus)
        self._cached += kept
        self._guessed = []
