"""KV caches on disk, so that `llm -c` in a new process need not process the conversation again."""

from __future__ import annotations

import hashlib
import os
from array import array
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Shorter prefixes are processed faster than they are loaded.
MIN_TOKENS = 64


@dataclass(frozen=True)
class KvStore:
    """A folder of KV caches, readable by the user only, of at most `max_bytes`.

    An entry is two files, the KV cache and the token ids in it, named by a hash of the model and
    the ids. `model` is a name that changes when the weights do.
    """

    folder: Path
    max_bytes: int

    def find(self, model: str, tokens: Sequence[int]) -> tuple[Any, int]:
        """Return the KV cache with the longest common prefix and its length, or None and 0.

        At least one token is left to process.
        """
        best: tuple[Path, int, int] | None = None
        for ids in self._entries(model):
            cached = _read_ids(ids)
            common = min(_common_length(cached, tokens), len(tokens) - 1)
            if common >= MIN_TOKENS and (best is None or common > best[1]):
                best = (ids, common, len(cached))
        return self._load(*best) if best else (None, 0)

    def save(self, model: str, tokens: Sequence[int], cache: Any) -> None:
        """Write a KV cache, and remove the least recently used ones to stay within the limit.

        A cache that can't be written is left out.
        """
        from mlx_lm.models.cache import save_prompt_cache

        if len(tokens) < MIN_TOKENS:
            return
        ids = array("i", tokens).tobytes()
        name = hashlib.sha256(model.encode() + b"\0" + ids).hexdigest()[:32]
        target = self._model_folder(model) / f"{name}.safetensors"
        unfinished = target.with_name(f".{name}.{os.getpid()}.safetensors")
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
            save_prompt_cache(str(unfinished), cache)
            unfinished.chmod(0o600)
            unfinished.replace(target)
            ids_file = target.with_suffix(".ids")
            ids_file.touch(mode=0o600)
            ids_file.write_bytes(ids)
            self._remove_prefixes(model, target, tokens)
            self._shrink()
        except (OSError, RuntimeError, ValueError):
            unfinished.unlink(missing_ok=True)

    def _model_folder(self, model: str) -> Path:
        return self.folder / hashlib.sha256(model.encode()).hexdigest()[:16]

    def _entries(self, model: str) -> list[Path]:
        try:
            return list(self._model_folder(model).glob("*.ids"))
        except OSError:
            # The folder belongs to another user, as after sudo. The prompt is processed instead.
            return []

    def _load(self, ids: Path, common: int, length: int) -> tuple[Any, int]:
        """Load an entry of `length` tokens, trimmed to those in common."""
        import mlx.core as mx
        from mlx_lm.models.cache import (
            can_trim_prompt_cache,
            load_prompt_cache,
            trim_prompt_cache,
        )

        file = ids.with_suffix(".safetensors")
        try:
            cache: Any = load_prompt_cache(str(file))
            mx.eval([layer.state for layer in cache])
            os.utime(file)
        except Exception:
            # Whatever is wrong with the file, the prompt can be processed instead.
            return None, 0
        if getattr(cache[0], "offset", length) != length:
            return None, 0
        if common < length:
            if not can_trim_prompt_cache(cache):
                return None, 0
            trim_prompt_cache(cache, length - common)
        return cache, common

    def _remove_prefixes(self, model: str, target: Path, tokens: Sequence[int]) -> None:
        """Remove the entries whose tokens are a prefix of the new entry's."""
        for ids in self._entries(model):
            cached = _read_ids(ids)
            if ids.stem != target.stem and list(cached) == list(tokens[: len(cached)]):
                _remove(ids)

    def _shrink(self) -> None:
        """Remove the least recently used entries until the others are within the limit."""
        files = [(file.stat(), file) for file in self.folder.glob("*/*.safetensors")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, file in sorted(files, key=lambda entry: entry[0].st_mtime):
            if total <= self.max_bytes:
                return
            _remove(file.with_suffix(".ids"))
            total -= stat.st_size


def _read_ids(file: Path) -> array[int]:
    """Return the token ids of an entry, or none if they can't be read."""
    ids = array("i")
    with suppress(OSError, ValueError):
        ids.frombytes(file.read_bytes())
    return ids


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = zip(left, right, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _remove(ids: Path) -> None:
    ids.unlink(missing_ok=True)
    ids.with_suffix(".safetensors").unlink(missing_ok=True)
