"""Loading a model into memory with mlx_lm, on the worker's thread."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from ...errors import DamagedModel, EngineError, ModelUnavailable
from ..tokens.grammar_tokenizer import make_tokenizer
from ..weights.inspect import WEIGHTS_PATTERN
from ..weights.templates import tokenizer_settings
from . import layer_caches, rollback
from .kv import PrefixCache
from .pass_costs import PassCosts
from .statistics import TokenRate

if TYPE_CHECKING:
    from pathlib import Path

    from ..weights.inspect import ModelFiles
    from .requests import GenerationRequest

# The tokens that end a turn in the model families of the catalogue. Some repositories don't list
# theirs among the EOS ids.
TURN_ENDS = ("<|end|>", "<|im_end|>")

# The share of the memory for models that the prefix cache of each model may use.
PREFIX_CACHE_SHARE = 0.1


class LoadedModel:
    """A model in memory, with its tokenizer, the facts from its files and its prefix cache.

    `version` distinguishes it from other models that had or will have the same name.
    `trims_caches` says whether KV caches can be trimmed to any length, `takes_back` whether the
    tokens of their latest pass can be taken out of them, and `batches` whether several sequences
    can be generated together.
    """

    def __init__(
        self, model: Any, tokenizer: Any, files: ModelFiles, request: GenerationRequest
    ) -> None:
        from mlx_lm.models.cache import make_prompt_cache

        self.name = request.name
        self.model = model
        self.tokenizer = tokenizer
        self.files = files
        self.sampling = _sampling_defaults(files.path)
        self.prefixes = PrefixCache(int(request.budget * PREFIX_CACHE_SHARE))
        self._adapter = request.adapter
        self._written = _last_modified(files.path, request.adapter)
        self.version = f"{self.name} {files.path} {self._written}"
        empty = make_prompt_cache(model)
        self.trims_caches = layer_caches.always_trims(empty)
        self.batches = layer_caches.can_batch(empty)
        self.takes_back = rollback.is_possible(empty)
        self.pass_costs = PassCosts()
        self.vocabulary_size = len(tokenizer.get_vocab())
        # Logits are padded beyond the vocabulary.
        self.logits_width = files.logits or self.vocabulary_size
        self._grammar_tokenizer: Any = None
        self._added_tokens: dict[int, tuple[int, ...]] | None = None
        self.last_used = time.time()
        self.rate = TokenRate()

    def is_current(self) -> bool:
        """Return whether the weights on disk are still those in memory."""
        return _last_modified(self.files.path, self._adapter) == self._written

    @property
    def memory(self) -> int:
        """Bytes of memory: weights, the KV cache of a usual context, and the prefix cache."""
        return self.files.memory + self.prefixes.nbytes

    def kv_bytes(self, tokens: int) -> int:
        """Return the size of a KV cache for this number of tokens, in bytes."""
        return tokens * (self.files.kv_bytes_per_token or 0)

    def unload(self) -> None:
        """Free the weights and the prefix cache. The model can't be used afterwards.

        Dropping the reference is not enough: a model that refers to itself would stay in memory
        until the next garbage collection.
        """
        for module in self.model.modules():
            module.clear()
        self.prefixes = PrefixCache(0)

    def grammar_tokenizer(self) -> Any:
        """Return llguidance's form of the tokenizer, built on first use."""
        if self._grammar_tokenizer is None:
            self._grammar_tokenizer = make_tokenizer(self.tokenizer, self.logits_width)
        return self._grammar_tokenizer

    def token_bytes(self, token: int) -> tuple[int, ...]:
        """Return the bytes of a token's text, which may be part of a character.

        Raises RequestError.
        """
        if self._added_tokens is None:
            added = self.tokenizer.added_tokens_decoder
            self._added_tokens = {id_: tuple(str(name).encode()) for id_, name in added.items()}
        if token in self._added_tokens:
            # llguidance has other names for them.
            return self._added_tokens[token]
        return tuple(self.grammar_tokenizer().decode_bytes([token]))


def load_model(request: GenerationRequest, files: ModelFiles) -> LoadedModel:
    """Load the request's model. Raises ModelUnavailable, DamagedModel or EngineError."""
    import_mlx_lm()
    import mlx_lm

    name, folder = request.name, request.folder
    adapter = str(request.adapter) if request.adapter else None
    # A prompt that is too long is an error of ours; transformers would also warn on stderr.
    settings = {"model_max_length": sys.maxsize} | tokenizer_settings(folder)
    try:
        model, tokenizer = mlx_lm.load(
            str(folder), tokenizer_config=settings, adapter_path=adapter, lazy=False
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
        # For example an adapter of PEFT, whose adapter_config.json has other fields.
        raise ModelUnavailable(
            f"{name}: the adapter is not in mlx_lm's format", fix="create it with mlx_lm.lora"
        ) from None
    vocabulary = tokenizer.get_vocab()
    for token in TURN_ENDS:
        if token in vocabulary:
            tokenizer.add_eos_token(token)
    return LoadedModel(model, tokenizer, files, request)


def brief(error: Exception) -> str:
    """Return an error's message in one short line: MLX lists every tensor that does not fit."""
    return " ".join(str(error).split())[:200]


def import_mlx_lm() -> None:
    """Import mlx_lm without its side effects on the process.

    It lowers the limit of open files (ml-explore/mlx-lm#1589), and prints warnings to stdout,
    where the answer goes.
    """
    import importlib
    import resource

    if "mlx_lm" in sys.modules:
        return
    # Prevent the change: once the hard limit is lowered, only root can raise it again.
    setrlimit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        generate = importlib.import_module("mlx_lm.generate")
    finally:
        resource.setrlimit = setrlimit
    generate.print = lambda *values, **_: print(*values, file=sys.stderr)  # type: ignore[attr-defined]  # noqa: T201


def _last_modified(folder: Path, adapter: Path | None) -> int:
    """Return when the config or the weights were last written, in nanoseconds; 0 if unknown."""
    files = [folder / "config.json", *folder.glob(WEIGHTS_PATTERN)]
    files += adapter.glob("*.safetensors") if adapter else ()
    try:
        return max(file.stat().st_mtime_ns for file in files)
    except OSError:
        return 0


def _sampling_defaults(folder: Path) -> dict[str, float]:
    """Return the sampling options that the model's authors recommend in generation_config.json."""
    try:
        config = json.loads((folder / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict) or config.get("do_sample") is False:
        return {}
    names = ("temperature", "top_p", "min_p", "top_k")
    return {name: config[name] for name in names if isinstance(config.get(name), (int, float))}
