"""What a model folder on disk holds, read without MLX: its config and the weights' headers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import DamagedModel, ModelUnavailable

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = "model*.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
OTHER_FORMATS = (".gguf", ".npz", ".bin")
MLX_BUILD = "take an MLX build of the model, such as those of huggingface.co/mlx-community"

LENGTH_BYTES = 8  # a safetensors file starts with the length of its JSON header
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
CACHE_BYTES = 2  # MLX keeps keys and values in 16 bits
USUAL_CONTEXT = 4096  # tokens of context that a model in memory is expected to hold

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class ModelFiles:
    """What can be told of a model before it is loaded.

    `size` is bytes of weights on disk, `parameters` counts weights as they were before they were
    quantised, `context_length` and `kv_bytes_per_token` are None where the config lacks them.
    """

    path: Path
    size: int
    parameters: int
    context_length: int | None
    kv_bytes_per_token: int | None
    model_type: str

    @property
    def memory(self) -> int:
        """Bytes that the model takes in use: its weights, and the cache of a usual context."""
        tokens = min(USUAL_CONTEXT, self.context_length or USUAL_CONTEXT)
        return self.size + tokens * (self.kv_bytes_per_token or 0)


@dataclass(frozen=True)
class _Tensor:
    """One entry of a safetensors header; `end` is where its bytes end, from the header's end."""

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


# What was read of each folder, and the state of its files at the time.
_inspected: dict[Path, tuple[object, ModelFiles]] = {}


def inspect_folder(path: Path, *, fix: str | None = None) -> ModelFiles:
    """Return what a model folder holds; it is read again only if a file in it has changed.

    `fix` is the command that restores missing or damaged files; without it the user is told to
    copy them again. Raises ModelUnavailable if this is not an MLX model, DamagedModel if it is
    an incomplete one.
    """
    try:
        state = _state(path)
        known, files = _inspected.get(path, (None, None))
        if files is None or known != state:
            files = _read_folder(path, fix)
            _inspected[path] = state, files
        return files
    except OSError as error:
        raise ModelUnavailable(
            f"Can't read {error.filename}: {error.strerror}",
            fix=fix or "check who may read it",
        ) from error


def has_weights(path: Path) -> bool:
    """Whether config and weights are there, every shard of them; their content is not read."""
    if not (path / "config.json").is_file():
        return False
    try:
        shards = _indexed_shards(path, fix=None)
    except ModelUnavailable:
        return False
    found = {weights.name for weights in path.glob(WEIGHTS) if weights.is_file()}
    return bool(found) and shards <= found


def _state(path: Path) -> object:
    """Return something that differs once a file of the folder is written, added or removed."""
    if not path.is_dir():
        return None
    stats = {file.name: file.stat() for file in path.iterdir() if file.exists()}
    # The time of change rather than of modification: copying tools set the latter.
    return {name: (stat.st_ino, stat.st_size, stat.st_ctime_ns) for name, stat in stats.items()}


def _read_folder(path: Path, fix: str | None) -> ModelFiles:
    config = _read_config(path, fix)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ModelUnavailable(
            f"{path} is no MLX model: its config.json names no model_type", fix=MLX_BUILD
        )
    weights = _find_weights(path, fix)
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise ModelUnavailable(
            f"{path} has no tokenizer: neither {' nor '.join(TOKENIZERS)} is there",
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
        model_type=model_type,
    )


def _read_config(path: Path, fix: str | None) -> JsonObject:
    if not path.exists():
        raise ModelUnavailable(f"there is no folder {path}", fix=fix or "check the path")
    if not path.is_dir():
        raise ModelUnavailable(
            f"{path} is no folder", fix=fix or "give the folder that holds the model's files"
        )
    file = path / "config.json"
    if not file.is_file():
        raise ModelUnavailable(
            f"{path} is no MLX model: it has no config.json",
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
    weights = sorted(path.glob(WEIGHTS))
    missing = sorted(_indexed_shards(path, fix) - {file.name for file in weights})
    if missing:
        raise DamagedModel(
            f"{path} lacks {len(missing)} of the weights files named in {INDEX}: "
            + ", ".join(missing[:3])
            + (", …" if len(missing) > 3 else ""),
            fix=fix or "copy the folder again",
        )
    if weights:
        return weights
    others = sorted(file.name for file in path.iterdir() if file.suffix in OTHER_FORMATS)
    found = f"only {others[0]}" if others else "no weights"
    raise ModelUnavailable(
        f"{path} holds {found}: MLX wants safetensors ({WEIGHTS})",
        fix=MLX_BUILD if others else fix or MLX_BUILD,
    )


def _indexed_shards(path: Path, fix: str | None) -> set[str]:
    """Return the weights files that the index names; none if there is no index."""
    file = path / INDEX
    if not file.is_file():
        return set()
    try:
        return set(json.loads(file.read_bytes())["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedModel(
            f"{file} is no index of weights", fix=fix or "copy the file again"
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


def _truncated(file: Path, found: int, expected: int, fix: str) -> DamagedModel:
    return DamagedModel(
        f"{file} is damaged: it has {found:,} bytes where its header wants at least {expected:,}",
        fix=fix,
    )


def _count_parameters(tensors: dict[str, _Tensor], config: JsonObject) -> int:
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
    """With how many bits a layer's weights are packed into 32-bit words."""
    quantization = config.get("quantization")
    if isinstance(quantization, dict):
        own = quantization.get(layer)
        bits = _integer(own, "bits") if isinstance(own, dict) else None
        bits = bits or _integer(quantization, "bits")
        if bits:
            return bits
    raise ModelUnavailable(
        f"The weights of {layer} are quantised, but config.json does not say with how many bits",
        fix=MLX_BUILD,
    )


def _integer(config: JsonObject, key: str) -> int | None:
    """Look a number up in the config, or in the language model's part of a larger one."""
    for part in (config, config.get("text_config")):
        value = part.get(key) if isinstance(part, dict) else None
        if isinstance(value, int):
            return value
    return None


def _kv_bytes_per_token(config: JsonObject) -> int | None:
    layers = _integer(config, "num_hidden_layers")
    heads = _integer(config, "num_attention_heads")
    kv_heads = _integer(config, "num_key_value_heads") or heads
    head_dim = _integer(config, "head_dim")
    if not head_dim and heads:
        hidden = _integer(config, "hidden_size")
        head_dim = hidden // heads if hidden else None
    if not (layers and kv_heads and head_dim):
        return None
    return 2 * layers * kv_heads * head_dim * CACHE_BYTES


def template_has_tools(folder: Path) -> bool:
    """Whether the chat template of a model folder knows tool calls in the form we can read."""
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        try:
            text = (folder / name).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if "<tool_call>" in text and "tool_call.name" in text:
            return True
    return False
