"""The passes of one sequence through its model: each gives a token, and often more."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from ..tokens.sampling import SeededSampler
from .rollback import Rollback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..tokens.structured import Constraint
    from .pass_costs import PassCosts

# mlx-lm's interval, in steps, for giving memory back.
CLEAR_INTERVAL = 256


class Guesses(Protocol):
    """Where guesses of the next tokens come from."""

    def add(self, sampled: Sequence[int], forced: Sequence[int] = ()) -> None:
        """Add the next tokens of the answer, first those that the model had a choice about."""

    def count(self, certain: int) -> int:
        """Return how many tokens to guess now, in one pass with this many that are certain."""

    def guess(self, certain: int, most: int) -> list[int]:
        """Return the tokens to guess now, at most this many."""


@dataclass(frozen=True)
class Step:
    """The next tokens of an answer.

    `logprobs` are log-probabilities over the whole vocabulary, one row for each of the first
    tokens; the schema left no choice about the others. It took this many `passes`, and `kept` of
    `guessed` tokens were right.
    """

    tokens: list[int]
    logprobs: list[Any]
    passes: int = 1
    guessed: int = 0
    kept: int = 0


@dataclass
class _Pass:
    """A pass over tokens that are certain and others that are guessed.

    `logits` has a row for the last certain token and for each guess; `sampled` and `logprobs` are
    what follows each of them, once that has been queued.
    """

    certain: int
    guesses: list[int]
    logits: Any
    rollback: Rollback | None
    sampled: Any = None
    logprobs: list[Any] = field(default_factory=list)


class Passes:
    """Generates the tokens of one sequence.

    What a schema leaves no choice about goes through the model together with the token before
    it, and so do guesses of what comes next: the model tells in one pass for each of them whether
    it is what it would have said itself. A token is sampled as without guesses in any case, and a
    guess only saves the pass, so that the answer does not depend on guesses.

    `cache` holds all of `tokens` but the last, and `limit` more may follow.
    """

    def __init__(  # noqa: PLR0913 - what generation needs
        self,
        model: Any,
        cache: list[Any],
        tokens: Sequence[int],
        *,
        limit: int,
        ends: Sequence[int],
        sampler: Callable[[Any], Any],
        penalties: Sequence[Callable[[Any, Any], Any]],
        constraint: Constraint | None,
        guesses: Guesses | None,
        costs: PassCosts,
    ) -> None:
        self.cached = len(tokens) - 1
        """The number of tokens in the cache that are certain."""
        import mlx.core as mx

        self._model = model
        self._cache = cache
        self._known = list(tokens)
        self._most = len(tokens) + limit
        self._ends = frozenset(ends)
        self._sampler = sampler
        self._penalties = penalties
        self._constraint = constraint
        self._guesses = guesses
        self._costs = costs
        # For the penalties: the tokens that were passed to the model or are queued.
        self._seen: Any = mx.array(list(tokens[:-1]) if penalties else [], mx.uint32)
        self._latest: _Pass | None = None

    def steps(self) -> Generator[Step, None, None]:
        """Yield the next tokens, up to the end of the turn or the limit, which may be exceeded."""
        import mlx.core as mx
        from mlx_lm.generate import generation_stream

        forced = self._add([])
        with mx.stream(generation_stream):
            current = self._sample(self._pass([]))
        if forced:
            yield Step(forced, [], passes=0)
        read_at: float | None = None
        for number in count(1):
            with mx.stream(generation_stream):
                # Queued before the token is read, so that the device always has work.
                following = None if current.guesses or self._waits() else self._go_on(current)
                sampled = self._read(current)
                before, read_at = read_at, time.perf_counter()
                if before is not None:
                    self._costs.add(current.certain + len(current.guesses), read_at - before)
                kept = len(sampled) - 1
                self._take_back(current, len(current.guesses) - kept)
                forced = self._add(sampled)
                is_vain = following is not None and bool(forced)
                is_end = sampled[-1] in self._ends or len(self._known) >= self._most
                if not is_end:
                    if following is None or is_vain:
                        following = self._pass(self._guess())
                    following = self._sample(following)
            yield Step(
                tokens=sampled + forced,
                logprobs=current.logprobs[: len(sampled)],
                passes=1 + is_vain,
                guessed=len(current.guesses),
                kept=kept,
            )
            if is_end or following is None:
                return
            current = following
            if number % CLEAR_INTERVAL == 0:
                mx.clear_cache()

    def close(self) -> None:
        """Take the guesses that nobody has checked out of the cache."""
        latest, self._latest = self._latest, None
        if latest is not None:
            self._take_back(latest, len(latest.guesses))

    def _pass(self, guesses: list[int]) -> _Pass:
        """Queue a pass over the tokens that are not in the cache yet, and over guesses."""
        import mlx.core as mx

        certain = self._known[self.cached :]
        if self._penalties:
            new = mx.array(self._known[self._seen.size :], mx.uint32)
            self._seen = mx.concatenate([self._seen, new])
        return self._forward(mx.array([*certain, *guesses], mx.uint32), len(certain), guesses)

    def _go_on(self, current: _Pass) -> _Pass:
        """Queue a pass over the token that another pass has sampled, before it is read."""
        import mlx.core as mx

        if self._penalties:
            self._seen = mx.concatenate([self._seen, current.sampled])
        following = self._forward(current.sampled, 1, [])
        return following if self._constraint else self._sample(following)

    def _forward(self, tokens: Any, certain: int, guesses: list[int]) -> _Pass:
        import mlx.core as mx

        # Without guesses, nothing is taken back.
        rollback = Rollback(self._cache) if guesses else None
        logits = self._model(tokens[None], cache=self._cache)
        logits = logits[0, -1 - len(guesses) :] if guesses else logits[:, -1]
        if self._constraint:
            # The model computes them while the mask is made.
            mx.async_eval(logits)  # type: ignore[no-untyped-call]  # its stub has no types
        self.cached += certain
        self._latest = _Pass(certain, guesses, logits, rollback)
        return self._latest

    def _sample(self, current: _Pass) -> _Pass:
        """Queue the sampling of what follows the last certain token and each guess."""
        import mlx.core as mx

        if current.sampled is not None:
            return current
        logits = self._processed(current)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        current.logprobs = list(logprobs) if current.guesses else [logprobs.squeeze(0)]
        # With a seed, there are no draws in vain.
        is_later = current.guesses and isinstance(self._sampler, SeededSampler)
        if not is_later:
            current.sampled = self._sampler(logprobs).astype(mx.uint32)
        arrays = [logprobs] if is_later else [current.sampled, logprobs]
        mx.async_eval(*arrays)  # type: ignore[no-untyped-call]  # its stub has no types
        return current

    def _processed(self, current: _Pass) -> Any:
        """Return the logits after penalties and masks, each row as if the guesses were right."""
        import mlx.core as mx

        constraint = self._constraint
        if not (self._penalties or constraint):
            return current.logits
        state = constraint.state if constraint else None
        rows = []
        for index in range(len(current.guesses) + 1):
            logits = current.logits[index : index + 1]
            guessed = current.guesses[:index]
            if self._penalties:
                seen = mx.concatenate([self._seen, mx.array(guessed, mx.uint32)])
                for penalty in self._penalties:
                    logits = penalty(seen, logits)
            if constraint:
                constraint.accept(guessed[-1:])
                logits = constraint.mask(logits)
            rows.append(logits)
        if constraint and state:
            constraint.restore(state)
        return mx.concatenate(rows)

    def _read(self, current: _Pass) -> list[int]:
        """Return the sampled tokens up to the first one that was not guessed."""
        if current.sampled is None:
            sampled = (int(self._sampler(row[None]).item()) for row in current.logprobs)
        else:
            sampled = iter(current.sampled.tolist())
        tokens = []
        for guess in [*current.guesses, None]:
            tokens.append(next(sampled))
            if tokens[-1] != guess:
                break
        return tokens

    def _take_back(self, current: _Pass, wrong: int) -> None:
        """Take the last guesses of the latest pass out of the cache, this many."""
        guessed = len(current.guesses)
        lost = 0
        if current.rollback and wrong:
            lost = current.rollback.take_back(wrong, current.certain + guessed)
        self.cached += guessed - lost

    def _add(self, sampled: list[int]) -> list[int]:
        """Take note of the next tokens, and return those that the schema forces after them."""
        forced: list[int] = []
        if self._constraint:
            self._constraint.accept(sampled)
            forced = self._constraint.forced()
            self._constraint.accept(forced)
        if forced and isinstance(self._sampler, SeededSampler):
            self._sampler.skip(forced)
        self._known += sampled + forced
        if self._guesses and (sampled or forced):
            self._guesses.add(sampled, forced)
        return forced

    def _waits(self) -> bool:
        """Whether the next pass is to wait for the token before it: more may go with it."""
        if len(self._known) + 1 >= self._most:
            # This token is the last one.
            return True
        is_narrow = self._constraint is not None and self._constraint.is_narrow
        return is_narrow or (self._guesses is not None and self._guesses.count(1) > 0)

    def _guess(self) -> list[int]:
        """Return guesses of the next tokens, none of which ends the turn."""
        most = self._most - len(self._known) - 1
        if self._guesses is None or most < 1:
            return []
        guesses = self._guesses.guess(len(self._known) - self.cached, most)
        if self._constraint:
            guesses = self._constraint.possible(guesses)
        ends = (index for index, token in enumerate(guesses) if token in self._ends)
        return guesses[: next(ends, None)]
