"""Models in memory: loaded at first use, shared by the whole process, evicted under a budget.

Everything here runs on the engine's worker thread, apart from `folders`.
"""

from __future__ import annotations

import gc
import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ..errors import DamagedModel, EngineError, ModelUnavailable
from . import files, structured
from .kv import PrefixCache

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from .requests import GenerationRequest

# What ends a turn in the families we serve. Some repositories leave it out of their EOS ids.
TURN_ENDS = ("<|end|>", "<|im_end|>")

# The share of the memory for models that each of them may keep of what it has read.
PREFIX_SHARE = 0.1

# Characters a token has at least, on average: for a guess at a prompt's length before it is read.
CHARACTERS_PER_TOKEN = 3


class Loaded:
    """A model in memory, with its tokenizer, what its files say, and what it has read lately."""

    def __init__(
        self, name: str, model: Any, tokenizer: Any, found: files.ModelFiles, budget: int
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.files = found
        self.sampling = _sampling_defaults(found.path)
        self.prefixes = PrefixCache(int(budget * PREFIX_SHARE))
        # Logits are padded beyond the vocabulary.
        self.width = int(getattr(model.args, "vocab_size", None) or len(tokenizer))
        self._grammar_tokenizer: Any = None

    def grammar_tokenizer(self) -> Any:
        """Llguidance's view of the tokenizer, made at first use."""
        if self._grammar_tokenizer is None:
            self._grammar_tokenizer = structured.make_tokenizer(self.tokenizer, self.width)
        return self._grammar_tokenizer


class Residents:
    """The models in memory, least recently used first."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()

    def folders(self) -> dict[str, Path]:
        """The models in memory and where they came from. Safe to call from any thread."""
        return {name: loaded.files.path for name, loaded in self._loaded.copy().items()}

    def fits(self, request: GenerationRequest, busy: Collection[Loaded]) -> bool:
        """Whether the request's model and KV cache fit next to the models that are busy."""
        found = files.inspect(request.folder)
        weights = sum(loaded.files.size for loaded in busy)
        if self._held(request) not in busy:
            weights += found.size
        characters = sum(len(message["content"]) for message in request.chat)
        tokens = characters // CHARACTERS_PER_TOKEN + request.max_tokens
        cache = tokens * (found.kv_bytes_per_token or 0)
        kept = sum(loaded.prefixes.nbytes for loaded in busy)
        return weights + kept + cache <= request.budget

    def get(self, request: GenerationRequest, busy: Collection[Loaded] = ()) -> Loaded:
        """The request's model, loaded if it is not in memory; idle ones make room for it.

        Raises ModelUnavailable, with the numbers, where it is too large, DamagedModel or
        EngineError.
        """
        name = _name(request)
        held = self._held(request)
        if held is None:
            found = files.inspect(request.folder)
            if found.memory > request.budget:
                raise ModelUnavailable(
                    f"needs {found.memory / 1e9:.1f} GB of memory, "
                    f"and models may use {request.budget / 1e9:.1f} GB",
                    fix="memory_limit in the config, or a smaller model",
                )
            self._loaded.pop(name, None)
            self._make_room(request.budget - found.memory, busy)
            held = self._loaded[name] = _load(name, request, found)
        self._loaded.move_to_end(name)
        return held

    def _held(self, request: GenerationRequest) -> Loaded | None:
        """The model if it is in memory, out of the very folder that the request names."""
        held = self._loaded.get(_name(request))
        return held if held and held.files.path == request.folder else None

    def clear(self) -> None:
        """Let go of every model."""
        self._make_room(-1, ())

    def _make_room(self, budget: int, busy: Collection[Loaded]) -> None:
        """Evict idle models until the rest takes no more than the budget."""
        kept = {loaded.name for loaded in busy}
        for name in [name for name in self._loaded if name not in kept]:
            if sum(loaded.files.memory for loaded in self._loaded.values()) <= budget:
                return
            self._evict(name)

    def _evict(self, name: str) -> None:
        import mlx.core as mx

        del self._loaded[name]
        gc.collect()
        mx.clear_cache()


def _name(request: GenerationRequest) -> str:
    """What the model is kept under: with another adapter, it is another model."""
    return f"{request.model}+{request.adapter}" if request.adapter else request.model


def _load(name: str, request: GenerationRequest, found: files.ModelFiles) -> Loaded:
    import_mlx_lm()
    import mlx_lm

    folder = request.folder
    adapter = str(request.adapter) if request.adapter else None
    try:
        model, tokenizer = mlx_lm.load(str(folder), adapter_path=adapter, lazy=False)[:2]
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
    return Loaded(name, model, tokenizer, found, request.budget)


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
