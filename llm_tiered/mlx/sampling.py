"""How the next token is chosen."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def sampler(sampling: Mapping[str, float]) -> Callable[[Any], Any]:
    """The sampler for these settings; the same one each time, so that batches can share it."""
    return _sampler(
        sampling.get("temperature", 0.0),
        sampling.get("top_p", 0.0),
        sampling.get("min_p", 0.0),
        int(sampling.get("top_k", 0)),
    )


@functools.lru_cache(maxsize=64)
def _sampler(temperature: float, top_p: float, min_p: float, top_k: int) -> Callable[[Any], Any]:
    from mlx_lm.sample_utils import make_sampler

    chosen: Callable[[Any], Any] = make_sampler(
        temp=temperature, top_p=top_p, min_p=min_p, top_k=top_k
    )
    return chosen


def penalties(sampling: Mapping[str, float]) -> list[Callable[[Any, Any], Any]]:
    """The processors that change the logits for these settings, apart from a schema's."""
    from mlx_lm.sample_utils import make_logits_processors

    penalty = sampling.get("repetition_penalty", 1.0)
    processors: list[Callable[[Any, Any], Any]] = make_logits_processors(
        repetition_penalty=None if penalty == 1.0 else penalty
    )
    return processors
