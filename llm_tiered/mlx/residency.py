"""Models in memory: loaded at first use, shared by the whole process, evicted under a budget.

Everything here runs on the engine's worker thread, apart from `folders`.
"""

from __future__ import annotations

import gc
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DamagedModel, EngineError, ModelUnavailable
from . import files

if TYPE_CHECKING:
    from pathlib import Path

# What ends a turn in the families we serve. Some repositories leave it out of their EOS ids.
TURN_ENDS = ("<|end|>", "<|im_end|>")


@dataclass
class Loaded:
    """A model in memory, with its tokenizer and what its files say of it."""

    name: str
    model: Any
    tokenizer: Any
    files: files.ModelFiles
    sampling: dict[str, float]


class Residents:
    """The models in memory, least recently used first."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()

    def folders(self) -> dict[str, Path]:
        """The models in memory and where they came from. Safe to call from any thread."""
        return {name: loaded.files.path for name, loaded in self._loaded.copy().items()}

    def get(self, name: str, folder: Path, budget: int) -> Loaded:
        """The model, loaded if it is not in memory; others go if they would not fit together.

        `budget` is in bytes. Raises ModelUnavailable, DamagedModel or EngineError.
        """
        if name not in self._loaded:
            found = files.inspect(folder)
            while self._loaded and self._size() + found.size > budget:
                self._evict()
            self._loaded[name] = _load(name, folder, found)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def clear(self) -> None:
        """Let go of every model."""
        while self._loaded:
            self._evict()

    def _size(self) -> int:
        return sum(loaded.files.size for loaded in self._loaded.values())

    def _evict(self) -> None:
        import mlx.core as mx

        self._loaded.popitem(last=False)
        gc.collect()
        mx.clear_cache()


def _load(name: str, folder: Path, found: files.ModelFiles) -> Loaded:
    import_mlx_lm()
    import mlx_lm

    try:
        model, tokenizer = mlx_lm.load(str(folder), lazy=False)[:2]
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{name}: a file is missing: {error.filename or error}") from None
    except ValueError as error:
        raise ModelUnavailable(f"{name} in {folder} can't be loaded: {error}") from None
    except MemoryError:
        raise EngineError(f"{name}: not enough memory to load it") from None
    except (RuntimeError, KeyError, TypeError) as error:
        raise DamagedModel(f"{name} in {folder} can't be loaded: {error}") from None
    vocabulary = tokenizer.get_vocab()
    for token in TURN_ENDS:
        if token in vocabulary:
            tokenizer.add_eos_token(token)
    return Loaded(name, model, tokenizer, found, _sampling_defaults(folder))


def _sampling_defaults(folder: Path) -> dict[str, float]:
    """What the model's authors recommend, from generation_config.json where there is one."""
    try:
        found = json.loads((folder / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("do_sample") is False:
        return {}
    names = ("temperature", "top_p", "min_p", "top_k")
    return {name: found[name] for name in names if isinstance(found.get(name), (int, float))}


def import_mlx_lm() -> None:
    """Import mlx_lm without its side effects on the process.

    It lowers the limit of open files (ml-explore/mlx-lm#1589), and prints warnings to stdout,
    which belongs to the answer.
    """
    import importlib
    import resource
    import sys

    if "mlx_lm" in sys.modules:
        return
    # Once lowered, only root could raise the hard limit again: it must not happen at all.
    setrlimit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        generate = importlib.import_module("mlx_lm.generate")
    finally:
        resource.setrlimit = setrlimit
    generate.print = lambda *values, **_: print(*values, file=sys.stderr)  # type: ignore[attr-defined]  # noqa: T201
