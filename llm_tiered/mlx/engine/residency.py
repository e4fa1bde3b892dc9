"""Models in memory: loaded at first use, shared by the whole process, evicted under a budget.

Everything here runs on the engine's worker thread, apart from `folders`.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ...errors import DamagedModel, EngineError, ModelUnavailable
from .. import device
from ..tokens import structured
from ..weights.inspect import WEIGHTS_PATTERN, ModelFiles, inspect_folder
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
    """A model in memory, with its tokenizer, what its files say, and what it has read lately.

    `version` tells it from whatever else went or will go by its name.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        found: ModelFiles,
        request: GenerationRequest,
    ) -> None:
        self.name = request.name
        self.model = model
        self.tokenizer = tokenizer
        self.files = found
        self.sampling = _sampling_defaults(found.path)
        self.prefixes = PrefixCache(int(request.budget * PREFIX_SHARE))
        self.version = f"{self.name} {found.path} {_newest(found.path, request.adapter)}"
        self.vocabulary = len(tokenizer.get_vocab())
        # Logits are padded beyond the vocabulary.
        self.width = int(getattr(model.args, "vocab_size", None) or self.vocabulary)
        self._grammar_tokenizer: Any = None

    @property
    def memory(self) -> int:
        """Bytes that it takes: with the cache of a usual context, and what it has read lately."""
        return self.files.memory + self.prefixes.nbytes

    def kv_bytes(self, tokens: int) -> int:
        """Bytes that the KV cache of so many tokens takes."""
        return tokens * (self.files.kv_bytes_per_token or 0)

    def let_go(self) -> None:
        """Free its weights and what it has read at once; it is of no use afterwards.

        Were it left to Python, a model that refers to itself would stay until the next collection.
        """
        for module in self.model.modules():
            module.clear()
        self.prefixes = PrefixCache(0)

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

    def fits(self, request: GenerationRequest, busy: Collection[Loaded], caches: int) -> bool:
        """Whether the request fits next to the models that are busy and their KV caches, in bytes.

        Raises ModelUnavailable or DamagedModel.
        """
        taken = caches + sum(loaded.files.size + loaded.prefixes.nbytes for loaded in busy)
        characters = sum(len(message["content"]) for message in request.chat)
        tokens = characters // CHARACTERS_PER_TOKEN + request.max_tokens
        for wanted in filter(None, (request, request.drafting)):
            found = self._files(wanted)
            taken += tokens * (found.kv_bytes_per_token or 0)
            if self._held(wanted) not in busy:
                taken += found.size
        return taken <= request.budget

    def get(
        self,
        request: GenerationRequest,
        busy: Collection[Loaded] = (),
        *,
        beside: Loaded | None = None,
    ) -> Loaded:
        """The request's model, loaded if it is not in memory; idle ones make room for it.

        Raises ModelUnavailable, with the numbers, where it is too large, also for a place
        `beside` another one; DamagedModel or EngineError.
        """
        name = request.name
        held = self._held(request)
        if held is None:
            found = inspect_folder(request.folder)
            _check_size(request, found, beside)
            self._loaded.pop(name, None)
            self._make_room(request.budget - found.memory, busy)
            held = self._loaded[name] = _load(name, request, found)
        self._loaded.move_to_end(name)
        return held

    def _held(self, request: GenerationRequest) -> Loaded | None:
        """The model if it is in memory, out of the very folder that the request names."""
        held = self._loaded.get(request.name)
        return held if held and held.files.path == request.folder else None

    def _files(self, request: GenerationRequest) -> ModelFiles:
        """What the files of the request's model say."""
        held = self._held(request)
        return held.files if held else inspect_folder(request.folder)

    def clear(self) -> None:
        """Let go of every model."""
        self._make_room(-1, ())

    def _make_room(self, budget: int, busy: Collection[Loaded]) -> None:
        """Evict idle models until the rest takes no more than the budget."""
        kept = {loaded.name for loaded in busy}
        for name in [name for name in self._loaded if name not in kept]:
            if sum(loaded.memory for loaded in self._loaded.values()) <= budget:
                return
            self._evict(name)

    def _evict(self, name: str) -> None:
        import mlx.core as mx

        self._loaded.pop(name).let_go()
        mx.clear_cache()


def _check_size(request: GenerationRequest, found: ModelFiles, beside: Loaded | None) -> None:
    """Raise ModelUnavailable where a model is too large, alone or beside another one."""
    needed = found.memory + (beside.files.memory if beside else 0)
    if needed > request.budget:
        subject = f"{request.model} beside {beside.name}" if beside else request.model
        raise device.too_large(needed, request.budget, subject)


def _load(name: str, request: GenerationRequest, found: ModelFiles) -> Loaded:
    import_mlx_lm()
    import mlx_lm

    folder = request.folder
    adapter = str(request.adapter) if request.adapter else None
    # We say ourselves that a prompt is too long; transformers would warn on stderr.
    endless = {"model_max_length": sys.maxsize}
    try:
        model, tokenizer = mlx_lm.load(
            str(folder), tokenizer_config=endless, adapter_path=adapter, lazy=False
        )[:2]
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{name}: a file is missing: {error.filename or error}") from None
    except ValueError as error:
        raise ModelUnavailable(f"{name} in {folder} can't be loaded: {brief(error)}") from None
    except MemoryError:
        raise EngineError(f"{name}: not enough memory to load it") from None
    except (RuntimeError, KeyError, TypeError) as error:
        raise DamagedModel(f"{name} in {folder} can't be loaded: {brief(error)}") from None
    except AttributeError:
        if adapter is None:
            raise
        # Such as those of PEFT, whose adapter_config.json says other things.
        raise ModelUnavailable(
            f"{name}: this adapter is not in the form of mlx_lm", fix="make it with mlx_lm.lora"
        ) from None
    vocabulary = tokenizer.get_vocab()
    for token in TURN_ENDS:
        if token in vocabulary:
            tokenizer.add_eos_token(token)
    return Loaded(model, tokenizer, found, request)


def brief(error: Exception) -> str:
    """What an error says, in one line: MLX lists every tensor that does not fit."""
    return " ".join(str(error).split())[:200]


def _newest(folder: Path, adapter: Path | None) -> int:
    """When the weights were last written, in nanoseconds."""
    weights = [*folder.glob(WEIGHTS_PATTERN), *(adapter.glob("*.safetensors") if adapter else ())]
    return max((file.stat().st_mtime_ns for file in weights), default=0)


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
