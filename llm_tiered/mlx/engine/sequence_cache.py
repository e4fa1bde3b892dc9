"""The KV cache of one sequence: where it comes from, and where it is kept afterwards."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .kv import PLAIN, cached_length, compact, trim_to_prefix

if TYPE_CHECKING:
    from .loading import LoadedModel
    from .requests import GenerationRequest


class SequenceCache:
    """Finds and stores KV caches for one sequence, in memory and on disk.

    `kind` tells the runner's KV caches from others that hold the same tokens.
    """

    def __init__(self, request: GenerationRequest, model: LoadedModel) -> None:
        self.kind = PLAIN
        self._model = model
        self._store = request.kv_store
        # With a seed, results are the same to the last bit only if the whole prompt is processed
        # in the same way each time.
        self._is_enabled = request.seed is None
        self._carried: Any = None

    def fetch(self, tokens: list[int]) -> tuple[Any, list[int]]:
        """Return the cache of the longest known prefix, or None, and the tokens left to process.

        At least one token is left.
        """
        if not self._is_enabled:
            return None, tokens
        carried, self._carried = self._carried, None
        if carried:
            return trim_to_prefix(carried, tokens)
        cache, unread = self._model.prefixes.fetch(tokens, self.kind)
        if self._store is not None:
            stored, length = self._store.find(self._source, tokens)
            if length > len(tokens) - len(unread):
                return stored, tokens[length:]
        return cache, unread

    def store(self, tokens: list[int], cache: Any) -> None:
        """Keep the cache of these tokens for later requests, unless that fails."""
        if not self._is_enabled:
            return
        with suppress(Exception):
            cached = tokens[: cached_length(cache)]
            compact(cache)
            self._model.prefixes.store(cached, cache, self.kind)
            if self._store is not None:
                self._store.save(self._source, cached, cache)

    def carry(self, cache: Any) -> None:
        """Keep a cache for the runner that continues this sequence, unless that fails."""
        with suppress(Exception):
            compact(cache)
            self._carried = cache

    @property
    def _source(self) -> str:
        """The name of the model and the kind of cache on disk."""
        return f"{self._model.version} {self.kind}" if self.kind else self._model.version
