"""The prefix cache: KV caches of earlier prompts and answers, reused for their common prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# KV caches for each model; their bytes are limited as well.
MAX_ENTRIES = 64

# The kind of KV cache that batches use.
PLAIN = ""


class PrefixCache:
    """The KV caches of a model's latest prompts and answers, limited in bytes.

    The least recently stored is evicted first. Since an answer is stored with its prompt, using an
    entry renews it. Entries are found by token ids, because a reply can tokenise differently when
    it comes back as text. A cache of one kind, such as a quantised one, is never used for another.
    """

    def __init__(self, max_bytes: int) -> None:
        from mlx_lm.models.cache import LRUPromptCache

        self._cache = LRUPromptCache(max_size=MAX_ENTRIES, max_bytes=max_bytes)

    @property
    def nbytes(self) -> int:
        """The size of all entries, in bytes."""
        return int(self._cache.nbytes)

    def fetch(self, tokens: Sequence[int], kind: str = PLAIN) -> tuple[Any, list[int]]:
        """Return a copy of the cache of the longest known prefix, or None, and the tokens left.

        At least one token is left to process.
        """
        cache, _ = self._cache.fetch_nearest_cache(kind, list(tokens))
        return trim_to_prefix(cache, tokens) if cache else (None, list(tokens))

    def store(self, tokens: Sequence[int], cache: Any, kind: str = PLAIN) -> None:
        """Keep the cache of these tokens; it may lack the last of them."""
        import mlx.core as mx

        length = cached_length(cache)
        if length is not None and 0 < length <= len(tokens):
            # Before it is computed, it would keep the whole batch that it was cut out of in memory.
            mx.eval([layer.state for layer in cache])
            self._cache.insert_cache(kind, list(tokens[:length]), cache)


def trim_to_prefix(cache: Any, tokens: Sequence[int]) -> tuple[Any, list[int]]:
    """Trim a cache so that it holds a prefix of the tokens, and return it with the tokens left.

    At least one token is left to process. If the cache can't be trimmed, returns None and all
    tokens.
    """
    from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

    length = cached_length(cache)
    if length is None:
        return None, list(tokens)
    most = len(tokens) - 1
    if length > most:
        if not can_trim_prompt_cache(cache):
            return None, list(tokens)
        trim_prompt_cache(cache, length - most)
    return cache, list(tokens[min(length, most) :])


def compact(cache: Any) -> None:
    """Free the memory that a cache reserves for more tokens: it grows by 256 at a time.

    This also computes it, which releases the batch that it was cut out of.
    """
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models.cache import KVCache, QuantizedKVCache

    for layer in cache:
        if isinstance(layer, (KVCache, QuantizedKVCache)):
            length = layer.offset
            layer.keys, layer.values = tree_map(
                lambda part, length=length: mx.contiguous(part[..., :length, :]),
                (layer.keys, layer.values),
            )
    mx.eval([layer.state for layer in cache])


def cached_length(cache: Any) -> int | None:
    """Return the number of tokens in a cache, or None if its kind does not say."""
    offset = getattr(cache[0], "offset", None) if cache else None
    return offset if isinstance(offset, int) else None
