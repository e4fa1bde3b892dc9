"""Taking tokens back out of a model's KV caches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import layer_caches

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_possible(cache: Iterable[Any]) -> bool:
    """Return whether `Rollback` can take tokens back out of caches of this kind."""
    from mlx_lm.models.cache import ArraysCache, KVCache, QuantizedKVCache

    kinds = (KVCache, QuantizedKVCache, ArraysCache)
    return all(isinstance(part, kinds) for part in layer_caches.parts(cache))


class Rollback:
    """The state of a cache before a pass.

    The states of linear attention can't be trimmed, but a pass puts new ones in their place: the
    old ones only have to be kept.
    """

    def __init__(self, cache: list[Any]) -> None:
        from mlx_lm.models.cache import ArraysCache

        parts = list(layer_caches.parts(cache))
        self._states = [(part, list(part.cache)) for part in parts if isinstance(part, ArraysCache)]
        self._others = [part for part in parts if not isinstance(part, ArraysCache)]

    def take_back(self, count: int, passed: int) -> int:
        """Take the last tokens of the pass back, at least this many of those that passed.

        Returns how many tokens the cache has lost. Where it can't lose some of them, it loses all.
        """
        lost = passed if self._states else count
        for part, states in self._states:
            part.cache = list(states)
        for part in self._others:
            part.trim(lost)
        return lost
