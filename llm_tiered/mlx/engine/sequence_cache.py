"""The KV cache of one sequence: where it comes from, and where it is kept afterwards."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import layer_caches
from .kv import PLAIN

if TYPE_CHECKING:
    from .loading import LoadedModel
    from .requests import GenerationRequest


class SequenceCache:
    """Finds and stores KV caches for one sequence, in memory and on disk.

    `kind` tells the runner's KV caches from others that hold the same tokens.
    """

    def __init__(self, request: GenerationRequest, model: LoadedModel) -> None:
        self.kind = PLAIN
        # With a seed, results are the same to the last bit only if the whole prompt is processed
        # in the same way each time.
        self.is_enabled = request.seed is None
        self._model = model
        self._store = request.kv_store
        self._carried: tuple[list[Any], int] | None = None
        # Checkpoints are written to disk when the answer has ended: it should not wait for them.
        self._unwritten: list[tuple[list[int], list[Any]]] = []

    def fetch(self, tokens: list[int]) -> tuple[Any, list[int]]:
        """Return the cache of the longest known prefix, or None, and the tokens left to process.

        At least one token is left.
        """
        if not self.is_enabled:
            return None, tokens
        carried, self._carried = self._carried, None
        if carried:
            cache, length = carried
            kept = min(length, len(tokens) - 1)
            if layer_caches.trim(cache, length - kept):
                return cache, tokens[kept:]
        cache, unread = self._model.prefixes.fetch(tokens, self.kind)
        if self._store is not None:
            stored, length = self._store.find(self._source, tokens)
            if length > len(tokens) - len(unread):
                return stored, tokens[length:]
        return cache, unread

    def checkpoint(self, tokens: list[int], cache: list[Any]) -> None:
        """Keep the cache of a part of the prompt, unless that fails. Nothing else may change it."""
        with suppress(Exception):
            cached = self._keep(tokens, cache)
            # Without a store, they would only take memory that nobody counts.
            if self._store is not None:
                self._unwritten.append((cached, cache))

    def store(self, tokens: list[int], cache: list[Any]) -> None:
        """Keep the cache of these tokens for later requests, unless that fails.

        With a draft model, it may lack the last ones.
        """
        if not self.is_enabled:
            return
        with suppress(Exception):
            self._unwritten.append((self._keep(tokens, cache), cache))
        self.write()

    def write(self) -> None:
        """Write to disk what has been kept, unless that fails."""
        unwritten, self._unwritten = self._unwritten, []
        if self._store is not None:
            with suppress(Exception):
                for tokens, cache in unwritten:
                    self._store.save(self._source, tokens, cache)

    def carry(self, tokens: list[int], cache: list[Any]) -> None:
        """Keep the cache of these tokens for the runner that continues, unless that fails."""
        with suppress(Exception):
            layer_caches.compact(cache)
            self._carried = cache, len(_cached(tokens, cache))

    def _keep(self, tokens: list[int], cache: list[Any]) -> list[int]:
        """Keep a cache in memory, and return the tokens in it."""
        cached = _cached(tokens, cache)
        layer_caches.compact(cache)
        self._model.prefixes.store(cached, cache, self.kind)
        return cached

    @property
    def _source(self) -> str:
        """The name of the model and the kind of cache on disk."""
        return f"{self._model.version} {self.kind}" if self.kind else self._model.version


def _cached(tokens: list[int], cache: list[Any]) -> list[int]:
    """Return those of the tokens that are in the cache, all if it does not say."""
    return tokens[: layer_caches.length(cache)]
