"""KV caches on disk, so that `llm -c` in a new process need not process the conversation again."""

from __future__ import annotations

import hashlib
import os
from array import array
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..tokens.prefix import common_length
from . import layer_caches

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

        At least one token is left to process. A cache that can't be trimmed counts only as a whole.
        """
        prefix = array("i", tokens[:-1])
        known = [(ids, self._read_ids(model, ids)) for ids in self._entries(model)]
        candidates = [(common_length(cached, prefix), len(cached), ids) for ids, cached in known]
        # The longest prefix first; among equals the shortest cache, which needs the least trimming.
        candidates.sort(key=lambda entry: (-entry[0], entry[1]))
        for common, length, ids in candidates:
            if common < MIN_TOKENS:
                break
            cache = self._load(ids, length, length - common)
            if cache:
                return cache, common
        return None, 0

    def save(self, model: str, tokens: Sequence[int], cache: list[Any]) -> None:
        """Write a KV cache, and remove the least recently used ones to stay within the limit.

        A cache that can't be written is left out.
        """
        from mlx_lm.models.cache import save_prompt_cache

        if len(tokens) < MIN_TOKENS or not layer_caches.can_load(cache):
            return
        cached = array("i", tokens)
        target = self._model_folder(model) / f"{_name(model, cached)}.safetensors"
        unfinished = target.with_name(f".{target.stem}.{os.getpid()}.safetensors")
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
            save_prompt_cache(str(unfinished), cache)
            unfinished.chmod(0o600)
            unfinished.replace(target)
            ids_file = target.with_suffix(".ids")
            ids_file.touch(mode=0o600)
            ids_file.write_bytes(cached.tobytes())
            if layer_caches.can_trim(cache):
                self._remove_prefixes(model, target, cached)
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

    def _read_ids(self, model: str, file: Path) -> array[int]:
        """Return the token ids of an entry, or none if they can't be read or are not all there."""
        ids = array("i")
        with suppress(OSError, ValueError):
            ids.frombytes(file.read_bytes())
        return ids if file.stem == _name(model, ids) else array("i")

    def _load(self, ids: Path, length: int, surplus: int) -> list[Any] | None:
        """Return an entry of `length` tokens without its last ones, or None if it can't be trimmed.

        An entry that is damaged is removed.
        """
        import mlx.core as mx
        from mlx_lm.models.cache import load_prompt_cache

        file = ids.with_suffix(".safetensors")
        try:
            # This reads only the file's header.
            cache: list[Any] = load_prompt_cache(str(file))
            if layer_caches.length(cache) not in (None, length):
                return None
            if not layer_caches.trim(cache, surplus):
                return None
            mx.eval([layer.state for layer in cache])
            os.utime(file)
        except Exception:
            # Whatever is wrong with the file, the prompt can be processed instead.
            with suppress(OSError):
                _remove(ids)
            return None
        return cache

    def _remove_prefixes(self, model: str, target: Path, tokens: array[int]) -> None:
        """Remove the entries whose tokens are a prefix of the new entry's."""
        for ids in self._entries(model):
            cached = self._read_ids(model, ids)
            if ids.stem != target.stem and common_length(cached, tokens) == len(cached):
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


def _name(model: str, ids: array[int]) -> str:
    return hashlib.sha256(model.encode() + b"\0" + ids.tobytes()).hexdigest()[:32]


def _remove(ids: Path) -> None:
    ids.unlink(missing_ok=True)
    ids.with_suffix(".safetensors").unlink(missing_ok=True)
