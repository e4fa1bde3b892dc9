"""What a model has read, kept on disk for the next process: `llm -c` need not read it again."""

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

# Shorter beginnings are read faster than they are loaded.
WORTH_KEEPING = 64


@dataclass(frozen=True)
class KvStore:
    """A folder of KV caches, private to the user, of at most `max_bytes`.

    An entry is two files: the cache, and the token ids that it holds. They are named by a hash
    of the model and the ids.
    """

    folder: Path
    max_bytes: int

    def find(self, model: str, tokens: Sequence[int]) -> tuple[Any, int]:
        """The cache that holds most of the tokens' beginning, and how many of them; or None, 0.

        At least one token is left to read.
        """
        best: tuple[Path, int, int] | None = None
        for ids in self._entries(model):
            held = _read_ids(ids)
            common = min(_common(held, tokens), len(tokens) - 1)
            if common >= WORTH_KEEPING and (best is None or common > best[1]):
                best = (ids, common, len(held))
        return self._load(*best) if best else (None, 0)

    def keep(self, model: str, tokens: Sequence[int], cache: Any) -> None:
        """Write a cache; the ones not used for longest go. What can't be written is left out."""
        from mlx_lm.models.cache import save_prompt_cache

        if len(tokens) < WORTH_KEEPING:
            return
        ids = array("i", tokens).tobytes()
        name = hashlib.sha256(model.encode() + b"\0" + ids).hexdigest()[:32]
        target = self._of(model) / f"{name}.safetensors"
        unfinished = target.with_name(f".{name}.{os.getpid()}.safetensors")
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
            save_prompt_cache(str(unfinished), cache)
            unfinished.chmod(0o600)
            unfinished.replace(target)
            listed = target.with_suffix(".ids")
            listed.touch(mode=0o600)
            listed.write_bytes(ids)
            self._drop_prefixes(model, target, tokens)
            self._shrink()
        except (OSError, RuntimeError, ValueError):
            unfinished.unlink(missing_ok=True)

    def _of(self, model: str) -> Path:
        return self.folder / hashlib.sha256(model.encode()).hexdigest()[:16]

    def _entries(self, model: str) -> list[Path]:
        try:
            return list(self._of(model).glob("*.ids"))
        except OSError:
            # Another user's, as after sudo: the prompt can be read instead.
            return []

    def _load(self, ids: Path, common: int, held: int) -> tuple[Any, int]:
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
            # Whatever is wrong with the file, the prompt can be read instead.
            return None, 0
        if getattr(cache[0], "offset", held) != held:
            return None, 0
        if common < held:
            if not can_trim_prompt_cache(cache):
                return None, 0
            trim_prompt_cache(cache, held - common)
        return cache, common

    def _drop_prefixes(self, model: str, kept: Path, tokens: Sequence[int]) -> None:
        """Remove the entries that the new one holds anyway."""
        for ids in self._entries(model):
            held = _read_ids(ids)
            if ids.stem != kept.stem and list(held) == list(tokens[: len(held)]):
                _remove(ids)

    def _shrink(self) -> None:
        files = [(file.stat(), file) for file in self.folder.glob("*/*.safetensors")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, file in sorted(files, key=lambda entry: entry[0].st_mtime):
            if total <= self.max_bytes:
                return
            _remove(file.with_suffix(".ids"))
            total -= stat.st_size


def _read_ids(file: Path) -> array[int]:
    """The token ids of an entry; none where they can't be read."""
    held = array("i")
    with suppress(OSError, ValueError):
        held.frombytes(file.read_bytes())
    return held


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many items two sequences have in common at their beginning."""
    pairs = zip(left, right, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _remove(ids: Path) -> None:
    ids.unlink(missing_ok=True)
    ids.with_suffix(".safetensors").unlink(missing_ok=True)
