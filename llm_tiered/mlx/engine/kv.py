"""What a model has read before, so that it need not read it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# How many prefixes a model keeps; their bytes are bounded as well.
ENTRIES = 64

# The kind of the caches that batches use.
PLAIN = ""


class PrefixCache:
    """The KV caches of a model's last prompts and answers, least recently used out first.

    To use one is to store it anew, with the answer: so the oldest are those that nobody used.
    They are found by token ids: a reply can tokenise differently when it comes back as text.
    Those of one kind, as a quantised one is, are no use where another kind is wanted.
    """

    def __init__(self, max_bytes: int) -> None:
        from mlx_lm.models.cache import LRUPromptCache

        self._cache = LRUPromptCache(max_size=ENTRIES, max_bytes=max_bytes)

    @property
    def nbytes(self) -> int:
        """Bytes that the caches take."""
        return int(self._cache.nbytes)

    def fetch(self, tokens: Sequence[int], kind: str = PLAIN) -> tuple[Any, list[int]]:
        """A cache of the longest known beginning of the tokens, and the tokens left to read.

        At least one token is left. The cache is a copy of its own, or None.
        """
        cache, _ = self._cache.fetch_nearest_cache(kind, list(tokens))
        return resume(cache, tokens) if cache else (None, list(tokens))

    def store(self, tokens: Sequence[int], cache: Any, kind: str = PLAIN) -> None:
        """Keep the cache of these tokens, as far as it holds them."""
        import mlx.core as mx

        held = length(cache)
        if held is not None and 0 < held <= len(tokens):
            # Not computed yet, it would hold on to all of the batch that it is cut out of.
            mx.eval([layer.state for layer in cache])
            self._cache.insert_cache(kind, list(tokens[:held]), cache)


def resume(cache: Any, tokens: Sequence[int]) -> tuple[Any, list[int]]:
    """A cache that holds a beginning of the tokens, and those left to read: at least one.

    Instead of a cache that can't be cut for that it gives None, and all tokens.
    """
    from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

    held = length(cache)
    if held is None:
        return None, list(tokens)
    most = len(tokens) - 1
    if held > most:
        if not can_trim_prompt_cache(cache):
            return None, list(tokens)
        trim_prompt_cache(cache, held - most)
    return cache, list(tokens[min(held, most) :])


def compact(cache: Any) -> None:
    """Let go of the room that a cache has for tokens to come: it grows by 256 at a time.

    And of the batch that it was cut out of: it is computed.
    """
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models.cache import KVCache, QuantizedKVCache

    for layer in cache:
        if isinstance(layer, (KVCache, QuantizedKVCache)):
            held = layer.offset
            layer.keys, layer.values = tree_map(
                lambda part, held=held: mx.contiguous(part[..., :held, :]),
                (layer.keys, layer.values),
            )
    mx.eval([layer.state for layer in cache])


def length(cache: Any) -> int | None:
    """How many tokens a cache holds, or None where its kind does not say."""
    offset = getattr(cache[0], "offset", None) if cache else None
    return offset if isinstance(offset, int) else None
