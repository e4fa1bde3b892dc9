"""What the caches of a model's layers hold, and what can be done with them.

Full attention keeps the keys and values of every token, and can be trimmed to any length. A
sliding window forgets the oldest, and linear attention keeps a state that only moves on: once
they have, they can't go back.
"""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def parts(cache: Iterable[Any]) -> Iterator[Any]:
    """Yield the caches of all layers; where a layer has several, one by one."""
    from mlx_lm.models.cache import CacheList

    for layer in cache:
        if isinstance(layer, CacheList):
            yield from parts(layer.caches)
        else:
            yield layer


def always_trims(cache: Iterable[Any]) -> bool:
    """Return whether caches of this kind can be trimmed at any time, and not only short ones."""
    from mlx_lm.models.cache import KVCache, QuantizedKVCache

    return all(isinstance(part, (KVCache, QuantizedKVCache)) for part in parts(cache))


def can_trim(cache: list[Any]) -> bool:
    """Return whether this cache can be trimmed now."""
    from mlx_lm.models.cache import ChunkedKVCache, can_trim_prompt_cache

    # mlx-lm would trim a chunk too, though tokens that come before it may have been dropped.
    return can_trim_prompt_cache(cache) and not any(
        isinstance(part, ChunkedKVCache) and part.start_position for part in parts(cache)
    )


def trim(cache: list[Any], count: int) -> bool:
    """Remove the last tokens from a cache, and return whether that was possible."""
    from mlx_lm.models.cache import trim_prompt_cache

    if count and not can_trim(cache):
        return False
    trim_prompt_cache(cache, count)
    return True


def can_batch(cache: Iterable[Any]) -> bool:
    """Return whether caches of this kind can be merged into a batch."""
    from mlx_lm.models.cache import ArraysCache

    return all(
        hasattr(part, "merge") and not (isinstance(part, ArraysCache) and _pads_states())
        for part in parts(cache)
    )


@functools.cache
def _pads_states() -> bool:
    """Return whether mlx-lm lets the padding of a batch into the states of linear attention.

    0.31 does: of prompts with different lengths, only the longest gets a right answer.
    """
    return version("mlx-lm").startswith("0.31.")


def can_load(cache: Iterable[Any]) -> bool:
    """Return whether mlx-lm can read this cache from a file, which it can write in any case."""
    from mlx_lm.models import cache as library

    return all(hasattr(library, type(part).__name__) for part in parts(cache))


def length(cache: Iterable[Any]) -> int | None:
    """Return the number of tokens in a cache, or None if no layer says so.

    With a draft model's layers, it is what both models have processed.
    """
    offsets = [getattr(part, "offset", None) for part in parts(cache)]
    return min((offset for offset in offsets if isinstance(offset, int)), default=None)


def compact(cache: list[Any]) -> None:
    """Free the memory that a cache reserves for more tokens, or keeps of those it has dropped.

    This also computes it, which releases the batch that it was cut out of.
    """
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models.cache import ArraysCache, KVCache, QuantizedKVCache, RotatingKVCache

    for part in parts(cache):
        if isinstance(part, (KVCache, QuantizedKVCache)):
            size = part.offset
            part.keys, part.values = tree_map(
                lambda array, size=size: mx.contiguous(array[..., :size, :]),
                (part.keys, part.values),
            )
        elif isinstance(part, RotatingKVCache) and part.keys is not None:
            _compact_window(part)
        elif isinstance(part, ArraysCache):
            part.cache = [None if array is None else mx.contiguous(array) for array in part.cache]
    mx.eval([layer.state for layer in cache])


def _compact_window(part: Any) -> None:
    """Keep a sliding window only: a long prefill leaves all of its tokens behind it."""
    import mlx.core as mx

    def window(array: Any) -> Any:
        ordered = part._temporal_order(array)
        surplus = max(0, ordered.shape[2] - part.max_size)
        if surplus:
            kept = [ordered[..., : part.keep, :], ordered[..., part.keep + surplus :, :]]
            ordered = mx.concatenate(kept, axis=2)
        return mx.contiguous(ordered)

    part.keys, part.values = window(part.keys), window(part.values)
    part._idx = part.keys.shape[2]
