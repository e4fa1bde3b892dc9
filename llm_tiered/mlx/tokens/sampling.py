"""Samplers, and the logits processors for penalties.

`sampling` maps the names of the sampling options (temperature, top_p, min_p, top_k,
repetition_penalty) to their values. Without a temperature, decoding is greedy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def make_sampler(sampling: Mapping[str, float]) -> Callable[[Any], Any]:
    """Return the sampler for these options.

    Equal options share one sampler, so that a batch can sample all their requests in one call.
    """
    return _shared_sampler(
        sampling.get("temperature", 0.0),
        sampling.get("top_p", 0.0),
        sampling.get("min_p", 0.0),
        int(sampling.get("top_k", 0)),
    )


@functools.lru_cache(maxsize=64)
def _shared_sampler(
    temperature: float, top_p: float, min_p: float, top_k: int
) -> Callable[[Any], Any]:
    from mlx_lm import sample_utils

    sampler: Callable[[Any], Any] = sample_utils.make_sampler(
        temp=temperature, top_p=top_p, min_p=min_p, top_k=top_k
    )
    return sampler


class SeededSampler:
    """A sampler with a random state of its own, which makes the same choices every time.

    mlx_lm's samplers draw from the thread's random state, which all requests share. Each token of
    an answer takes one draw: call it for one row at a time, in their order, and for nothing else.
    """

    def __init__(self, sampling: Mapping[str, float], seed: int) -> None:
        import mlx.core as mx

        self._temperature = sampling.get("temperature", 0.0)
        self._top_p, self._min_p = sampling.get("top_p", 0.0), sampling.get("min_p", 0.0)
        self._top_k = int(sampling.get("top_k", 0))
        self._key: Any = mx.random.key(seed)

    def __call__(self, logprobs: Any) -> Any:
        """Return the token to take, given the log-probabilities of all."""
        import mlx.core as mx
        from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

        if 0 < self._top_p < 1:
            logprobs = apply_top_p(logprobs, self._top_p)
        if self._min_p:
            logprobs = apply_min_p(logprobs, self._min_p)
        if self._top_k:
            logprobs = apply_top_k(logprobs, self._top_k)
        return mx.random.categorical(logprobs * (1 / self._temperature), key=self._next_key())

    def skip(self, tokens: Sequence[int]) -> None:
        """Leave out the draws of tokens that came without one."""
        for _ in tokens:
            self._next_key()

    def _next_key(self) -> Any:
        import mlx.core as mx

        self._key, key = mx.random.split(self._key)
        return key


def make_seeded_sampler(sampling: Mapping[str, float], seed: int) -> Callable[[Any], Any]:
    """Return a sampler that makes the same choices every time."""
    if sampling.get("temperature", 0.0) == 0:
        return make_sampler(sampling)
    return SeededSampler(sampling, seed)


def make_penalties(sampling: Mapping[str, float]) -> list[Callable[[Any, Any], Any]]:
    """Return the logits processors that apply the penalties among these options."""
    from mlx_lm.sample_utils import make_logits_processors

    penalty = sampling.get("repetition_penalty", 1.0)
    processors: list[Callable[[Any, Any], Any]] = make_logits_processors(
        repetition_penalty=None if penalty == 1.0 else penalty
    )
    return processors
