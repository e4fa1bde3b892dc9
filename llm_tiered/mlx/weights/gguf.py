"""Converts a Llama model in a GGUF file to a folder that mlx_lm can load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .. import device

if TYPE_CHECKING:
    from pathlib import Path

# The blocks of GGUF's Q4_0, Q4_1 and Q8_0 become MLX's groups; nothing is quantised again.
GROUP_SIZE = 32
BITS = 4  # of most weights; SmolLM2's embeddings have 8

CONTROL_TOKEN = 3  # GGUF's type for tokens that are not text, such as <|im_end|>

TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf: Path, folder: Path) -> None:
    """Write the model in the file `gguf` to `folder`, which must exist.

    Supports Llama models with tied embeddings and a byte-level BPE tokenizer that splits numbers
    into digits. Raises ModelUnavailable if MLX can't be imported, OSError if a file can't be
    written.
    """
    device.detect()
    import mlx.core as mx

    loaded: Any = mx.load(str(gguf), return_metadata=True)
    tensors, metadata = loaded
    facts = {
        key: value.tolist() if isinstance(value, mx.array) else value
        for key, value in metadata.items()
    }
    weights = _weights(tensors, facts)
    _write_json(folder / "config.json", _config(facts) | {"quantization": _quantization(weights)})
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(facts))
    (folder / "tokenizer.json").write_text(_tokenizer(facts), encoding="utf-8")
    _write_weights(folder / "model.safetensors", weights)
    del loaded, tensors, metadata, weights
    mx.clear_cache()


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": facts["llama.rope.freq_base"],
        "max_position_embeddings": facts["llama.context_length"],
        "vocab_size": facts["llama.vocab_size"],
        "tie_word_embeddings": True,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
    }


def _tokenizer_config(facts: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    return {
        # This class uses tokenizer.json unchanged; GPT2Tokenizer would not split digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[facts["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts["llama.context_length"],
        "chat_template": facts["tokenizer.chat_template"],
    }


def _tokenizer(facts: dict[str, Any]) -> str:
    """Return the content of tokenizer.json."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
            if kind == CONTROL_TOKEN
        ]
    )
    text: str = tokenizer.to_str()
    return text


def _weights(tensors: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors under mlx_lm's names and in its order of rows.

    The norms stay float32, which makes the activations float32, too: with float16 alone, MLX is
    about thirty times slower on a CPU.
    """
    heads = {
        "attn_q": facts["llama.attention.head_count"],
        "attn_k": facts["llama.attention.head_count_kv"],
    }
    weights = {}
    for name, tensor in tensors.items():
        stem, kind = name.rsplit(".", 1)
        part = stem.rsplit(".", 1)[-1]
        weights[f"{_module(stem)}.{kind}"] = (
            _in_halves(tensor, heads[part]) if part in heads else tensor
        )
    return weights


def _module(stem: str) -> str:
    """Return mlx_lm's name for the module that GGUF calls `stem`."""
    if stem in TOP_NAMES:
        return TOP_NAMES[stem]
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}"


def _in_halves(tensor: Any, heads: int) -> Any:
    """Reorder each head's rows for mlx_lm's rope: it pairs halves, GGUF pairs neighbours."""
    rows, columns = tensor.shape
    return (
        tensor.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def _quantization(weights: dict[str, Any]) -> dict[str, Any]:
    """Return the quantisation entry of config.json, with modules of other bits by name."""
    quantization: dict[str, Any] = {"group_size": GROUP_SIZE, "bits": BITS}
    for name, scales in weights.items():
        module, _, kind = name.rpartition(".")
        if kind == "scales":
            # A row has one scale per 32 weights, and 32 weights of n bits take n 32-bit words.
            bits = weights[f"{module}.weight"].shape[-1] // scales.shape[-1]
            if bits != BITS:
                quantization[module] = {"group_size": GROUP_SIZE, "bits": bits}
    return quantization


def _write_weights(file: Path, weights: dict[str, Any]) -> None:
    import mlx.core as mx

    try:
        mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})
    except RuntimeError as error:  # MLX's error for a full disk
        raise OSError(f"{file.name}: {error}") from error
