"""Small models with random weights, as folders on disk that `mlx_lm.load` accepts.

Architecture, tokenizer, special tokens, chat template and config are those of the family; only
the size and the weights are not.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tests.chat_templates import (
    GEMMA3_TEMPLATE,
    PHI3_TEMPLATE,
    QWEN2_TEMPLATE,
    QWEN3_TEMPLATE,
)

if TYPE_CHECKING:
    from pathlib import Path

Family = Literal["phi3", "qwen2", "qwen3", "qwen3_next", "qwen3_5", "gemma3_text"]

NEVER = -1000.0
"""An `eos_bias` so low that the model never ends its turn."""

CORPUS = """\
The quick brown fox jumps over the lazy dog, and then it rests under the old oak tree.
A scale is a row of notes in order of pitch. The major scale has seven notes, and so has the minor.
Play the chord slowly, then a little faster. Listen to every note before you go on to the next one.
Write an exercise for the left hand in the key of G major. Use quarter notes and eighth notes.
What is the capital of France? The capital of France is Paris. It lies on the river Seine.
How many hours are there in a week? There are 168 hours, because 24 times 7 is 168.
Please explain, in one short sentence, why the sky is blue. Thank you very much for your help!
You are a helpful assistant. You answer questions briefly, and you say so when you don't know.
The weather in Berlin is sunny today, with 21 degrees. In London it rains, and in Rome it is warm.
She said: "I can't come tomorrow, but I'll call you at 10:30." He didn't answer her question.
First, read the question. Second, think about the answer. Third, write it down and check it again.
The user asks, the assistant answers; the system message says what the assistant should do.
def add(first, second):
    return first + second
for number in range(10):
    print(number, number * number)
{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}
{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
{"type": "function", "function": {"name": "add", "description": "Add numbers", "parameters": {}}}
{"title": "Exercise", "difficulty": 3, "notes": ["C", "E", "G"], "minor": false, "tempo": null}
[{"id": 1, "score": 0.5, "valid": true}, {"id": 2, "score": -1.25, "valid": false}, {"id": 3}]
0 1 2 3 4 5 6 7 8 9 10 11 12 100 1000 1984 2024 3.14159 2.71828 -273.15 1e-5 50% $20
Grüße aus München, où est la gare? El niño comió piñas en la mañana. Crème brûlée, façade, naïve.
Привет, как дела? 你好,世界。 こんにちは。 ♭ ♯ ♪ € → ✓ 🎵 🙂
"""


@dataclass(frozen=True)
class _Format:
    """What distinguishes a family's tokenizer and config."""

    architecture: str
    special: tuple[str, ...]
    # One token each, but not hidden when decoding.
    added: tuple[str, ...]
    turn_end: str
    eos: tuple[str, ...]
    template: str
    rope_theta: float


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_FORMATS: dict[Family, _Format] = {
    "phi3": _Format(
        architecture="Phi3ForCausalLM",
        special=("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
        added=(),
        turn_end="<|end|>",
        # Like some real Phi repositories, this one leaves out <|end|>.
        eos=("<|endoftext|>",),
        template=PHI3_TEMPLATE,
        rope_theta=1e4,
    ),
    "qwen2": _Format(
        architecture="Qwen2ForCausalLM",
        special=_CHATML,
        added=("<tool_call>", "</tool_call>"),
        turn_end="<|im_end|>",
        eos=("<|im_end|>", "<|endoftext|>"),
        template=QWEN2_TEMPLATE,
        rope_theta=1e6,
    ),
    "qwen3": _Format(
        architecture="Qwen3ForCausalLM",
        special=_CHATML,
        added=(
            "<tool_call>",
            "</tool_call>",
            "<tool_response>",
            "</tool_response>",
            "<think>",
            "</think>",
        ),
        turn_end="<|im_end|>",
        eos=("<|im_end|>", "<|endoftext|>"),
        template=QWEN3_TEMPLATE,
        rope_theta=1e6,
    ),
    "gemma3_text": _Format(
        architecture="Gemma3ForCausalLM",
        special=("<|endoftext|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        added=(),
        turn_end="<end_of_turn>",
        eos=("<eos>", "<end_of_turn>"),
        template=GEMMA3_TEMPLATE,
        rope_theta=1e6,
    ),
}
_FORMATS["qwen3_next"] = replace(
    _FORMATS["qwen3"], architecture="Qwen3NextForCausalLM", rope_theta=1e7
)
_FORMATS["qwen3_5"] = replace(
    _FORMATS["qwen3"], architecture="Qwen3_5ForConditionalGeneration", rope_theta=1e7
)

# Only the last one of each two or four layers has full attention. The others have linear attention,
# or a short sliding window.
_LAYERS: dict[Family, dict[str, Any]] = {
    "qwen3_next": {
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "partial_rotary_factor": 0.25,
        "num_experts": 0,
        "num_experts_per_tok": 0,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
    },
    "gemma3_text": {"sliding_window": 24},
}
_LAYERS["qwen3_5"] = {
    name: value for name, value in _LAYERS["qwen3_next"].items() if name.startswith("linear")
}

# What Qwen 3.5 has beside its language model.
_VISION = {"depth": 1, "hidden_size": 32}


def build(  # noqa: PLR0913  (tests vary every one of them)
    family: Family,
    folder: Path,
    *,
    seed: int = 0,
    context: int = 512,
    quantize: bool = False,
    layers: int = 2,
    hidden: int = 64,
    eos_bias: float = NEVER,
) -> Path:
    """Write a random model of the family into the folder, and return the folder.

    `context` is in tokens; `quantize` means 4 bits in groups of 64. `eos_bias` is how readily
    the model ends its turn: never by default, immediately from about 100; in between, at
    temperature 0, at the first step where no other token is more likely. The output is printable
    text without other special tokens, control characters or broken UTF-8.
    """
    from mlx_lm.utils import save_config, save_model

    tokenizer = _train_tokenizer(_FORMATS[family])
    tokenizer.save_pretrained(folder)
    config = _config(family, tokenizer, context, layers, hidden)
    model = _random_model(config, seed)
    _bias_tokens(model, tokenizer, _FORMATS[family].turn_end, eos_bias)
    if quantize:
        config["quantization"] = _quantize(model)
    save_model(folder, model)
    save_config(config, folder / "config.json")
    generation = {"do_sample": False, "eos_token_id": config["eos_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2))
    return folder


def _train_tokenizer(form: _Format) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    bpe = Tokenizer(models.BPE())
    # Qwen's rules, because transformers applies them to every qwen2 regardless of tokenizer.json.
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = Sequence(
        [
            Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    bpe.add_special_tokens(list(form.special))
    bpe.add_tokens([AddedToken(text, normalized=False) for text in form.added])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=form.eos[0],
        pad_token="<|endoftext|>",
        chat_template=form.template,
        clean_up_tokenization_spaces=False,
        model_max_length=131072,
    )


def _config(
    family: Family, tokenizer: Any, context: int, layers: int, hidden: int
) -> dict[str, Any]:
    form = _FORMATS[family]
    eos = [tokenizer.convert_tokens_to_ids(text) for text in form.eos]
    config = {
        "architectures": [form.architecture],
        "model_type": family,
        "eos_token_id": eos[0] if len(eos) == 1 else eos,
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": context,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": form.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        # Padded beyond the tokenizer's last token, as in real models.
        "vocab_size": (len(tokenizer) // 64 + 1) * 64,
    }
    if family not in ("phi3", "qwen2"):
        config["head_dim"] = hidden // 4
    interval = {
        "qwen3_next": "full_attention_interval",
        "qwen3_5": "full_attention_interval",
        "gemma3_text": "sliding_window_pattern",
    }
    if family in interval:
        config[interval[family]] = min(layers, 4)
    config |= _LAYERS.get(family, {})
    if family != "qwen3_5":
        return config
    outer = {name: config[name] for name in ("architectures", "model_type", "eos_token_id")}
    text = config | {"model_type": "qwen3_5_text"}
    return outer | {"text_config": text, "vision_config": _VISION}


def _random_model(config: dict[str, Any], seed: int) -> Any:
    """Return a model whose weights are large enough for every input token to affect the output."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    architecture = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    weights = tree_flatten(model.parameters())
    keys = mx.random.split(mx.random.key(seed), len(weights))
    drawn = []
    for (name, old), key in zip(weights, keys, strict=True):
        if "q_norm" in name:
            # Qwen 3 normalises its queries here: without this scale it repeats itself endlessly.
            drawn.append((name, 4.0 * old))
        elif "norm" not in name:
            scale = 1.0 if "embed" in name else 2.0 / old.shape[-1] ** 0.5
            drawn.append((name, scale * mx.random.normal(old.shape, key=key)))
    model.load_weights(drawn, strict=False)
    return model


def _bias_tokens(model: Any, tokenizer: Any, turn_end: str, eos_bias: float) -> None:
    """Give the end of the turn its bias, and suppress all tokens that are not printable text.

    The heads of these families have no bias. So the first dimension of the hidden state is kept
    at 1 through all layers, and the head's weight for it serves as the bias.
    """
    import mlx.core as mx

    # Qwen 3.5 is a language model with a vision tower.
    model = getattr(model, "language_model", model)
    model.model.embed_tokens.weight[:, 0] = 1.0
    for layer in model.layers:
        is_linear = getattr(layer, "is_linear", False)
        output = layer.linear_attn.out_proj if is_linear else layer.self_attn.o_proj
        output.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    head = model.lm_head.weight
    head[:, 0] = 0.0
    silent = mx.array([i for i in range(head.shape[0]) if not _is_printable(tokenizer, i)])
    head[silent] = 0.0
    head[silent, 0] = NEVER
    head[tokenizer.convert_tokens_to_ids(turn_end), 0] = eos_bias


def _is_printable(tokenizer: Any, token: int) -> bool:
    if token >= len(tokenizer) or token in tokenizer.added_tokens_decoder:
        return False
    text = tokenizer.decode([token])
    return text.replace("\n", " ").isprintable() and "\ufffd" not in text


def _quantize(model: Any) -> dict[str, Any]:
    from mlx import nn

    how = {"group_size": 64, "bits": 4, "mode": "affine"}
    nn.quantize(model, **how)
    return how
