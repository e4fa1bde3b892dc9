"""Models with the shapes of real ones and random weights, which have the same speed and memory."""

from __future__ import annotations

import importlib
import json
import shutil
import string
from itertools import chain, count, islice, product
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..mlx import device
from ..mlx.engine.loading import import_mlx_lm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

GROUP_SIZE, BITS = 64, 4

TINY: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}

# Phi's own factors are not 1, but the computation is the same.
LONGROPE = {"type": "longrope", "long_factor": [1.0] * 48, "short_factor": [1.0] * 48}

SHAPES: dict[str, dict[str, Any]] = {
    "phi-3.5-mini": {
        "model_type": "phi3",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "rope_scaling": LONGROPE,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    },
}

TURN_END = "<|im_end|>"
SPECIAL = ("<|endoftext|>", "<|im_start|>", TURN_END)
TEMPLATE = """\
{%- for message in messages %}
    {{- "<|im_start|>" ~ message.role ~ "\\n" ~ message.content ~ "<|im_end|>\\n" }}
{%- endfor %}
{{- "<|im_start|>assistant\\n" if add_generation_prompt }}"""

SPACE = "Ġ"  # a space in byte-level tokenizers


def build(shape: Mapping[str, Any], folder: Path) -> Path:
    """Write a random model to the folder, which is returned.

    `shape` has the keys of a config.json. Only one layer is in memory at a time. Raises
    RequestError if the disk has too little space.
    """
    folder.mkdir(parents=True)
    needed, free = weight_bytes(shape), shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"the model needs {needed / 1e9:.1f} GB of disk, and {folder} has {free / 1e9:.1f} GB",
            fix="set TMPDIR to a folder on a larger disk",
        )
    tokenizer = make_tokenizer(shape["vocab_size"])
    tokenizer.save_pretrained(folder)
    config = {
        **shape,
        "eos_token_id": tokenizer.eos_token_id,
        "quantization": {"group_size": GROUP_SIZE, "bits": BITS},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    device.run_apart(lambda: _write_weights(shape, folder))
    return folder


def make_tokenizer(size: int) -> Any:
    """Return a byte-level tokenizer of transformers with `size` tokens, special ones included.

    The tokens are combinations of letters, and of the punctuation of JSON.
    """
    import_mlx_lm()  # before transformers, whose warnings it silences
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(islice(_merges(), size - len(alphabet) - len(SPECIAL)))
    tokens = [*alphabet, *(left + right for left, right in merges)]
    bpe = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=TURN_END, chat_template=TEMPLATE)


def _merges() -> Iterator[tuple[str, str]]:
    """Yield pairs of tokens to merge, short ones first."""
    letters = string.ascii_lowercase
    pairs = ["".join(pair) for pair in product(letters, repeat=2)]
    return chain(
        product('"{}[]:,', '"{}[]:,'),
        product(SPACE, letters),
        product(letters, letters),
        product([SPACE + letter for letter in letters], letters),
        product(letters, pairs),
        product([SPACE + letter for letter in letters], pairs),
        product(pairs, pairs),
    )


def weight_bytes(shape: Mapping[str, Any]) -> int:
    """Return the size of the weights in bytes, within a few per cent."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    head = hidden // shape["num_attention_heads"]
    attention = 2 * hidden * (hidden + head * shape["num_key_value_heads"])
    layer = attention + 3 * hidden * inner
    weights = shape["num_hidden_layers"] * layer + 2 * shape["vocab_size"] * hidden
    return int(weights * (BITS + 32 / GROUP_SIZE) / 8)


def _write_weights(shape: Mapping[str, Any], folder: Path) -> None:
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten

    architecture = importlib.import_module(f"mlx_lm.models.{shape['model_type']}")
    # MLX is lazy: this model has names and shapes, but no values.
    model = architecture.Model(architecture.ModelArgs.from_dict(dict(shape)))
    nn.quantize(model, group_size=GROUP_SIZE, bits=BITS)
    files: dict[str, dict[str, Any]] = {}
    for name, array in tree_flatten(model.parameters()):
        files.setdefault(_file(name), {})[name] = array
    keys = map(mx.random.key, count())
    dtype = getattr(mx, shape["torch_dtype"])
    index: dict[str, str] = {}
    for file, arrays in files.items():
        drawn = {name: _draw(name, array, next(keys), dtype) for name, array in arrays.items()}
        mx.save_safetensors(str(folder / file), drawn, metadata={"format": "mlx"})
        index |= dict.fromkeys(drawn, file)
        del drawn
        mx.clear_cache()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def _file(name: str) -> str:
    """Return the file of a weight: one for each layer, and one for each other module."""
    _, _, after = name.partition("layers.")
    return f"model-{after.partition('.')[0] or name.rpartition('.')[0]}.safetensors"


def _draw(name: str, array: Any, key: Any, dtype: Any) -> Any:
    """Return random values that keep the activations of the layers at the same size."""
    import mlx.core as mx

    if array.dtype == mx.uint32:
        # Two halves, because MLX draws floats: the last bits of a larger integer are not random.
        halves = (*array.shape[:-1], 2 * array.shape[-1])
        return mx.random.randint(0, 1 << 16, halves, mx.uint16, key).view(mx.uint32)
    kind = name.rpartition(".")[2]
    if kind in ("scales", "biases"):
        inputs = 1 if "embed" in name else array.shape[-1] * GROUP_SIZE
        # Uniform numbers from 0 to 15 have a standard deviation of 4.6 around 7.5.
        scale = inputs**-0.5 / 4.6
        return mx.full(array.shape, scale if kind == "scales" else -7.5 * scale, dtype)
    return mx.full(array.shape, 0.0 if kind == "bias" else 1.0, dtype)
