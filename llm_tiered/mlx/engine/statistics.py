"""The timings and log-probabilities of a sequence, for its final event."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from ...logprobs import likelihood
from ..tokens.logprobs import Logprobs
from .requests import Done

if TYPE_CHECKING:
    from ..tokens.logprobs import StepLogprobs
    from .requests import CutOff


# Seconds over which the rate of a model is measured.
WINDOW = 10


class TokenRate:
    """How many tokens a second all sequences of a model have generated lately."""

    def __init__(self) -> None:
        # For each second of the window in which there were any: the second, and how many.
        self._counts: deque[list[int]] = deque(maxlen=WINDOW + 1)

    def add(self) -> None:
        """Count a token."""
        second = int(time.monotonic())
        if self._counts and self._counts[-1][0] == second:
            self._counts[-1][1] += 1
        else:
            self._counts.append([second, 1])

    def __call__(self) -> float:
        """Return the tokens per second, 0 if there was none in the window. From any thread."""
        now = time.monotonic()
        counts = [count for count in self._counts.copy() if count[0] > now - WINDOW]
        if not counts:
            return 0.0
        return round(sum(count[1] for count in counts) / max(1.0, now - counts[0][0]), 1)


class Statistics:
    """The times and log-probabilities of one sequence, from its start on."""

    def __init__(self) -> None:
        self._logprobs = Logprobs()
        self._started = time.perf_counter()
        self._first_token: float | None = None
        self._generated = 0
        self._passes = self._guessed = self._kept = 0

    def add_token(self, step: StepLogprobs | None, row: int) -> None:
        """Count a generated token, whose log-probability is in this row of the step.

        Without a step, it was the only one possible, and says nothing about how sure the model is.
        """
        if self._first_token is None:
            self._first_token = time.perf_counter()
        self._generated += 1
        if step is not None:
            self._logprobs.add(step, row)

    def add_passes(self, passes: int, guessed: int, kept: int) -> None:
        """Count passes that give the next tokens, the tokens guessed and those that were right."""
        self._passes += passes
        self._guessed += guessed
        self._kept += kept

    def summary(  # each is one field of the event
        self,
        finish_reason: str,
        *,
        prompt_tokens: int,
        cached_tokens: int,
        schema_level: str | None,
        cut_off_by: CutOff | None,
    ) -> Done:
        """Return the final event of a sequence with at least one generated token."""
        import mlx.core as mx

        likely = likelihood(self._logprobs.values())
        now = time.perf_counter()
        first_token = self._first_token or now
        return Done(
            finish_reason=finish_reason,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            generation_tokens=self._generated,
            prompt_tps=_rate(prompt_tokens - cached_tokens, first_token - self._started),
            generation_tps=_rate(self._generated - 1, now - first_token),
            peak_memory=mx.get_peak_memory(),
            mean_logprob=likely.mean if likely else None,
            lowest_logprob=likely.lowest if likely else None,
            decile_logprob=likely.decile if likely else None,
            schema_level=schema_level,
            cut_off_by=cut_off_by,
            passes=self._passes,
            guessed_tokens=self._guessed,
            kept_tokens=self._kept,
        )


def _rate(tokens: int, seconds: float) -> float:
    return round(tokens / max(seconds, 1e-9), 1)
