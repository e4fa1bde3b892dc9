"""What mlx-lm's caches of a model's layers can do."""

from __future__ import annotations

import copy
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from llm_tiered.mlx.engine import layer_caches

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW, WIDTH = 8, 32


def arrays() -> Any:
    """Return the state of a layer with linear attention."""
    cache = ArraysCache(2)
    cache[0], cache[1] = mx.zeros((1, 3)), mx.zeros((1, 2, 2))
    return cache


def fill(cache: Any, *steps: int) -> Any:
    """Add keys and values, this number of tokens at each step; each is the token's position."""
    for count in steps:
        start = cache.offset
        values = mx.arange(start, start + count, dtype=mx.float32).reshape(1, 1, -1, 1)
        values = values * mx.ones((1, 1, 1, WIDTH))
        cache.update_and_fetch(values, values)
    return cache


def later_chunk() -> Any:
    """Return a cache that has dropped the tokens before its chunk."""
    cache = fill(ChunkedKVCache(WINDOW), 20)
    cache.start_position = 12
    cache.keys, cache.values = cache.keys[..., 12:20, :], cache.values[..., 12:20, :]
    return cache


KINDS: dict[str, tuple[Callable[[], Any], bool, bool, int | None]] = {
    "full": (lambda: fill(KVCache(), 5), True, True, 5),
    "quantised": (lambda: fill(QuantizedKVCache(group_size=32), 5), True, True, 5),
    "short window": (lambda: fill(RotatingKVCache(WINDOW), 5), False, True, 5),
    "full window": (lambda: fill(RotatingKVCache(WINDOW), 20), False, False, 20),
    "state": (arrays, False, False, None),
    "first chunk": (lambda: fill(ChunkedKVCache(WINDOW), 5), False, True, 5),
    "later chunk": (later_chunk, False, False, 20),
    "list": (lambda: CacheList(arrays(), fill(KVCache(), 5)), False, False, 5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_trimming(kind: str) -> None:
    """Full attention can always be trimmed, a window until it is full, a state never."""
    make, always, now, length = KINDS[kind]
    cache = [make()]
    assert layer_caches.always_trims(cache) is always
    assert layer_caches.length(cache) == length
    assert layer_caches.trim(cache, 0)
    assert layer_caches.trim(cache, 2) is now
    assert layer_caches.length(cache) == (length - 2 if length and now else length)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_layers(kind: str) -> None:
    """A model's cache can do what all of its layers can."""
    make, always, now, _ = KINDS[kind]
    cache = [fill(KVCache(), 5), make()]
    assert layer_caches.always_trims(cache) is always
    assert layer_caches.can_trim(cache) is now
    assert layer_caches.length(cache) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_compact(kind: str) -> None:
    """A compacted cache takes no more memory, and goes on as it would have."""
    cache = [KINDS[kind][0]()]
    compacted = copy.deepcopy(cache)
    layer_caches.compact(compacted)
    assert compacted[0].nbytes <= cache[0].nbytes
    for part, other in zip(layer_caches.parts(cache), layer_caches.parts(compacted), strict=True):
        if isinstance(part, ArraysCache):
            continue
        for count in (1, 3, 1):
            fill(part, count)
            fill(other, count)
            ours, theirs = (_seen(each) for each in (part, other))
            assert ours == theirs


def _seen(cache: Any) -> list[float]:
    """Return the tokens that the next one attends to."""
    new = mx.zeros((1, 1, 1, WIDTH))
    keys: Any = copy.deepcopy(cache).update_and_fetch(new, new)[0]
    if isinstance(cache, QuantizedKVCache):
        packed, scales, biases = keys
        keys = mx.dequantize(packed, scales, biases, group_size=32, bits=8)
    return sorted(keys[0, 0, :, 0].tolist())


def test_window_after_a_long_prefill() -> None:
    """Of a long prefill, no more than the window is kept."""
    cache = [fill(RotatingKVCache(WINDOW), 500)]
    layer_caches.compact(cache)
    assert cache[0].keys.shape[2] == WINDOW


@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind: str) -> None:
    """A copy stays as it is when the original goes on."""
    cache = KINDS[kind][0]()
    copied = copy.deepcopy(cache)
    for part, other in zip(layer_caches.parts([cache]), layer_caches.parts([copied]), strict=True):
        if isinstance(part, ArraysCache):
            part[0] = part[0] + 1
            assert other[0].tolist() == [[0.0] * 3]
        else:
            before = _seen(other)
            fill(part, 1, 3)
            assert _seen(other) == before


def test_batches() -> None:
    """Chunks can't be merged into a batch, and nor can what has one as a part."""
    assert layer_caches.can_batch([KVCache(), RotatingKVCache(WINDOW)])
    is_old = version("mlx-lm").startswith("0.31.")
    assert layer_caches.can_batch([KVCache(), arrays()]) is not is_old
    assert not layer_caches.can_batch([KVCache(), ChunkedKVCache(WINDOW)])
    assert not layer_caches.can_batch([CacheList(arrays(), ChunkedKVCache(WINDOW))])


def test_files() -> None:
    """A cache of a model's own kind can't be read from a file."""

    class LayerCache(KVCache):  # type: ignore[misc]  # mlx-lm has no types
        pass

    assert layer_caches.can_load([KVCache(), CacheList(arrays(), KVCache())])
    assert not layer_caches.can_load([KVCache(), LayerCache()])
