"""What a model folder holds, read from its config and the headers of its weights, without MLX."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import DamagedModel, ModelUnavailable

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS_PATTERN = "model*.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
OTHER_FORMATS = (".gguf", ".npz", ".bin")
MLX_BUILD = "use an MLX build of the model, such as one from huggingface.co/mlx-community"

LENGTH_BYTES = 8  # a safetensors file starts with the length of its header in this many bytes
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
CACHE_BYTES = 2  # per number: MLX keeps keys and values in 16 bits
USUAL_CONTEXT = 4096  # tokens, assumed when the memory of a model in use is estimated

JsonObject: TypeAlias = dict[str, Any]
FolderState: TypeAlias = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class ModelFiles:
    """What is known about a model before it is loaded.

    `size` is bytes of weights on disk, `parameters` counts the weights before quantisation,
    `context_length` is in tokens. `context_length`, `kv_bytes_per_token` and `logits`, the number
    of entries from which the next token is chosen, are None if the config does not give them.
    """

    path: Path
    size: int
    parameters: int
    context_length: int | None
    kv_bytes_per_token: int | None
    logits: int | None
    model_type: str

    @property
    def memory(self) -> int:
        """Bytes that the model needs in use: its weights and the KV cache of a usual context."""
        tokens = min(USUAL_CONTEXT, self.context_length or USUAL_CONTEXT)
        return self.size + tokens * (self.kv_bytes_per_token or 0)


@dataclass(frozen=True)
class _Tensor:
    """One entry of a safetensors header; `end` is where its data ends, counted from the header."""

    dtype: str
    elements: int
    end: int

    @classmethod
    def from_json(cls, entry: JsonObject) -> _Tensor:
        return cls(
            dtype=entry["dtype"],
            elements=int(prod(entry["shape"])),
            end=int(entry["data_offsets"][1]),
        )


# What each folder held, and the state of its files at that time.
_inspected: dict[Path, tuple[FolderState, ModelFiles]] = {}


def inspect_folder(path: Path, *, fix: str | None = None) -> ModelFiles:
    """Return what a model folder holds; it is read again only if a file in it has changed.

    `fix` is the command that restores missing or damaged files; without it the user is told to
    copy them again. Raises ModelUnavailable if this is not an MLX model, DamagedModel if it is
    an incomplete one.
    """
    try:
        state = _state(path)
        if path not in _inspected or _inspected[path][0] != state:
            _inspected[path] = state, _read_folder(path, fix)
        return _inspected[path][1]
    except OSError as error:
        raise ModelUnavailable(
            f"can't read {error.filename}: {error.strerror}",
            fix=fix or "check its permissions",
        ) from error


def has_model_files(path: Path) -> bool:
    """Whether the config and every weights file are there; their content is not checked."""
    if not (path / "config.json").is_file():
        return False
    try:
        shards = _indexed_shards(path, fix=None)
    except ModelUnavailable:
        return False
    names = {file.name for file in path.glob(WEIGHTS_PATTERN) if file.is_file()}
    return bool(names) and shards <= names


def _state(path: Path) -> FolderState:
    """Return what changes as soon as a file of the folder is written, added or removed."""
    if not path.is_dir():
        return {}
    stats = {file.name: file.stat() for file in path.iterdir() if file.exists()}
    # The change time, because programs that copy files set the modification time.
    return {name: (stat.st_ino, stat.st_size, stat.st_ctime_ns) for name, stat in stats.items()}


def _read_folder(path: Path, fix: str | None) -> ModelFiles:
    config = _read_config(path, fix)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ModelUnavailable(
            f"{path} is not an MLX model: its config.json has no model_type", fix=MLX_BUILD
        )
    weights = _find_weights(path, fix)
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise ModelUnavailable(
            f"{path} has no tokenizer: it holds neither {' nor '.join(TOKENIZERS)}",
            fix=fix or "copy the tokenizer's files into the folder",
        )
    tensors: dict[str, _Tensor] = {}
    for file in weights:
        tensors.update(_read_header(file, fix))
    return ModelFiles(
        path=path,
        size=sum(file.stat().st_size for file in weights),
        parameters=_count_parameters(tensors, config),
        context_length=_integer(config, "max_position_embeddings"),
        kv_bytes_per_token=_kv_bytes_per_token(config),
        logits=_integer(config, "vocab_size"),
        model_type=model_type,
    )


def _read_config(path: Path, fix: str | None) -> JsonObject:
    if not path.exists():
        raise ModelUnavailable(f"there is no folder {path}", fix=fix or "check the path")
    if not path.is_dir():
        raise ModelUnavailable(
            f"{path} is not a folder", fix=fix or "give the folder that holds the model's files"
        )
    file = path / "config.json"
    if not file.is_file():
        raise ModelUnavailable(
            f"{path} is not an MLX model: it has no config.json",
            fix=fix or "give the folder that holds config.json and the weights",
        )
    try:
        config = json.loads(file.read_bytes())
    except ValueError as error:
        raise ModelUnavailable(
            f"{file} is not JSON: {error}", fix=fix or "copy the file again"
        ) from error
    if not isinstance(config, dict):
        raise ModelUnavailable(f"{file} is not a JSON object", fix=fix or "copy the file again")
    return config


def _find_weights(path: Path, fix: str | None) -> list[Path]:
    weights = sorted(path.glob(WEIGHTS_PATTERN))
    missing = sorted(_indexed_shards(path, fix) - {file.name for file in weights})
    if missing:
        raise DamagedModel(
            f"{path} lacks {len(missing)} of the weights files listed in {INDEX}: "
            + ", ".join(missing[:3])
            + (", …" if len(missing) > 3 else ""),
            fix=fix or "copy the folder again",
        )
    if weights:
        return weights
    others = sorted(file.name for file in path.iterdir() if file.suffix in OTHER_FORMATS)
    content = f"only {others[0]}" if others else "no weights"
    raise ModelUnavailable(
        f"{path} holds {content}, but MLX needs {WEIGHTS_PATTERN}",
        fix=MLX_BUILD if others else fix or MLX_BUILD,
    )


def _indexed_shards(path: Path, fix: str | None) -> set[str]:
    """Return the names of the weights files in the index, or none if there is no index."""
    file = path / INDEX
    if not file.is_file():
        return set()
    try:
        return set(json.loads(file.read_bytes())["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedModel(
            f"{file} is not an index of weights", fix=fix or "copy the file again"
        ) from error


def _read_header(file: Path, fix: str | None) -> dict[str, _Tensor]:
    """Return the tensors of a safetensors file by name."""
    fix = fix or "copy the file again"
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        start = LENGTH_BYTES + length
        if length <= MAX_HEADER_BYTES and size < start:
            raise _truncated(file, size, start, fix)
        raw = stream.read(length) if length <= MAX_HEADER_BYTES else b""
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        tensors = {name: _Tensor.from_json(entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DamagedModel(
            f"{file} is damaged: its {size:,} bytes do not start with a safetensors header", fix=fix
        ) from error
    end = start + max((tensor.end for tensor in tensors.values()), default=0)
    if size < end:
        raise _truncated(file, size, end, fix)
    return tensors


def _truncated(file: Path, size: int, expected: int, fix: str) -> DamagedModel:
    return DamagedModel(
        f"{file} is damaged: it has {size:,} bytes, but its header needs at least {expected:,}",
        fix=fix,
    )


def _count_parameters(tensors: dict[str, _Tensor], config: JsonObject) -> int:
    """Return the number of weights before quantisation; scales and biases don't count."""
    packed = {
        name.removesuffix(".weight")
        for name, tensor in tensors.items()
        if name.endswith(".weight")
        and tensor.dtype == "U32"
        and f"{name.removesuffix('.weight')}.scales" in tensors
    }
    total = 0
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer in packed and kind == "weight":
            total += tensor.elements * 32 // _bits(layer, config)
        elif layer not in packed or kind not in ("scales", "biases"):
            total += tensor.elements
    return total


def _bits(layer: str, config: JsonObject) -> int:
    """Return how many bits a weight of the layer takes in its packed 32-bit words."""
    quantization = config.get("quantization")
    if isinstance(quantization, dict):
        own = quantization.get(layer)
        bits = _integer(own, "bits") if isinstance(own, dict) else None
        bits = bits or _integer(quantization, "bits")
        if bits:
            return bits
    raise ModelUnavailable(
        f"the weights of {layer} are quantised, but config.json does not say to how many bits",
        fix=MLX_BUILD,
    )


def _integer(config: JsonObject, key: str) -> int | None:
    """Return a number of the config, or of its text_config in a multimodal model."""
    for part in (config, config.get("text_config")):
        value = part.get(key) if isinstance(part, dict) else None
        if isinstance(value, int):
            return value
    return None


def _attention_layers(config: JsonObject) -> int | None:
    """Return the number of layers that keep every token: those of linear attention do not."""
    layers = _integer(config, "num_hidden_layers")
    interval = _integer(config, "full_attention_interval")
    return layers // interval if layers and interval else layers


def _kv_bytes_per_token(config: JsonObject) -> int | None:
    """Return the size of one token's keys and values in all layers."""
    layers = _attention_layers(config)
    heads = _integer(config, "num_attention_heads")
    kv_heads = _integer(config, "num_key_value_heads") or heads
    head_dim = _integer(config, "head_dim")
    if not head_dim and heads:
        hidden = _integer(config, "hidden_size")
        head_dim = hidden // heads if hidden else None
    if not (layers and kv_heads and head_dim):
        return None
    return 2 * layers * kv_heads * head_dim * CACHE_BYTES
