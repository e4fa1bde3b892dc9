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
        from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

        wanted = list(tokens)
        cache, rest = self._cache.fetch_nearest_cache(kind, wanted)
        if cache is None:
            return None, wanted
        if not rest:
            if not can_trim_prompt_cache(cache):
                return None, wanted
            trim_prompt_cache(cache, 1)
            rest = wanted[-1:]
        return cache, list(rest)

    def store(self, tokens: Sequence[int], cache: Any, kind: str = PLAIN) -> None:
        """Keep the cache of these tokens, as far as it holds them."""
        import mlx.core as mx

        held = length(cache)
        if held is not None and 0 < held <= len(tokens):
            # Not computed yet, it would hold on to all of the batch that it is cut out of.
            mx.eval([layer.state for layer in cache])
            self._cache.insert_cache(kind, list(tokens[:held]), cache)


def compact(cache: Any) -> None:
    """Let go of the room that a cache has for tokens to come: it grows by 256 at a time."""
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


def length(cache: Any) -> int | None:
    """How many tokens a cache holds, or None where its kind does not say."""
    offset = getattr(cache[0], "offset", None) if cache else None
    return offset if isinstance(offset, int) else None
