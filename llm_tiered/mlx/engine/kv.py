"""The prefix cache: KV caches of earlier prompts and answers, reused for their common prefix."""

from __future__ import annotations

import copy
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..tokens.prefix import common_length
from . import layer_caches

if TYPE_CHECKING:
    from collections.abc import Sequence

# KV caches for each model; their bytes are limited as well.
MAX_ENTRIES = 64

# The kind of KV cache that batches use.
PLAIN = ""


@dataclass(frozen=True)
class _Entry:
    """A KV cache that holds exactly these tokens."""

    kind: str
    tokens: array[int]
    cache: list[Any]
    nbytes: int


class PrefixCache:
    """The KV caches of a model's latest prompts and answers, limited in bytes.

    The least recently used is evicted first. Entries are found by token ids, because a reply can
    tokenise differently when it comes back as text. A cache of one kind, such as a quantised one,
    is never used for another.

    mlx-lm's LRUPromptCache is not used: there, a lookup takes a time that grows with the square of
    what an entry has beyond the common prefix, and does not count as a use.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The least recently used first.
        self._entries: list[_Entry] = []

    @property
    def nbytes(self) -> int:
        """The size of all entries, in bytes."""
        return sum(entry.nbytes for entry in self._entries)

    def fetch(self, tokens: Sequence[int], kind: str = PLAIN) -> tuple[Any, list[int]]:
        """Return a copy of the cache of the longest known prefix, or None, and the tokens left.

        At least one token is left to process. A cache that can't be trimmed is known only as a
        whole.
        """
        prefix = array("i", tokens[:-1])
        best, longest = None, 0
        for entry in self._entries:
            common = common_length(entry.tokens, prefix) if entry.kind == kind else 0
            whole = common == len(entry.tokens)
            if common > longest and (whole or layer_caches.can_trim(entry.cache)):
                best, longest = entry, common
        if best is None:
            return None, list(tokens)
        self._entries.remove(best)
        self._entries.append(best)
        # The copy shares its memory until one of both changes: MLX copies on write.
        cache = copy.deepcopy(best.cache)
        layer_caches.trim(cache, len(best.tokens) - longest)
        return cache, list(tokens[longest:])

    def store(self, tokens: Sequence[int], cache: list[Any], kind: str = PLAIN) -> None:
        """Keep the cache of these tokens, and evict others to stay within the limits."""
        import mlx.core as mx

        nbytes = sum(layer.nbytes for layer in cache)
        if not tokens or nbytes > self._max_bytes:
            return
        # Before it is computed, it would keep the whole batch that it was cut out of in memory.
        mx.eval([layer.state for layer in cache])
        new = _Entry(kind, array("i", tokens), cache, nbytes)
        self._entries = [entry for entry in self._entries if not _replaces(new, entry)]
        self._entries.append(new)
        while self.nbytes > self._max_bytes or len(self._entries) > MAX_ENTRIES:
            del self._entries[0]


def _replaces(new: _Entry, old: _Entry) -> bool:
    """Return whether the new entry serves every prompt that the old one does."""
    if new.kind != old.kind or common_length(new.tokens, old.tokens) < len(old.tokens):
        return False
    return len(new.tokens) == len(old.tokens) or layer_caches.can_trim(new.cache)
