"""Tokens are taken back out of caches after a pass."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from llm_tiered.mlx.engine.rollback import Rollback, is_possible


def library() -> Any:
    """Return mlx-lm's module of caches."""
    from mlx_lm.models import cache

    return cache


def filled(count: int) -> Any:
    """Return a layer's cache of full attention that holds this many tokens."""
    layer = library().KVCache()
    layer.update_and_fetch(mx.ones((1, 1, count, 4)), mx.ones((1, 1, count, 4)))
    return layer


def test_full_attention_loses_what_is_wrong() -> None:
    """Of full attention alone, only the last tokens are taken back."""
    cache = [filled(5), library().CacheList(filled(5), filled(5))]
    assert Rollback(cache).take_back(2, passed=4) == 2
    assert cache[0].offset == cache[1].caches[1].offset == 3


def test_linear_attention_loses_the_whole_pass() -> None:
    """With linear attention, every layer goes back to where it was before the pass."""
    states = library().ArraysCache(size=1)
    states[0] = before = mx.array([1.0])
    layer = filled(3)
    rollback = Rollback([states, layer])
    states[0] = mx.array([2.0])
    layer.update_and_fetch(mx.ones((1, 1, 4, 4)), mx.ones((1, 1, 4, 4)))
    assert rollback.take_back(1, passed=4) == 4
    assert states[0] is before
    assert layer.offset == 3


@pytest.mark.parametrize("name", ["RotatingKVCache", "ChunkedKVCache"])
def test_impossible(name: str) -> None:
    """What forgets the oldest tokens can't get them back."""
    cache = library()
    assert is_possible([cache.KVCache(), cache.ArraysCache(size=2)])
    assert not is_possible([cache.KVCache(), getattr(cache, name)(8)])
