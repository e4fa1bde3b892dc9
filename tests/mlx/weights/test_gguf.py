"""The conversion of a GGUF file to an MLX folder."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from transformers import AutoTokenizer

from llm_tiered.errors import ModelUnavailable
from llm_tiered.mlx import device
from llm_tiered.mlx.catalog import EMBEDDED
from llm_tiered.mlx.weights import gguf
from llm_tiered.mlx.weights.inspect import inspect_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    """The real model's converted tokenizer."""
    return AutoTokenizer.from_pretrained(smollm2_folder)


def weights_in(folder: Path) -> dict[str, Any]:
    """The arrays of a folder by name."""
    weights: Any = mx.load(str(folder / "model.safetensors"))
    return dict(weights)


def test_config(tiny_gguf: Path, tmp_path: Path) -> None:
    """The config has the GGUF's numbers and the quantisation of the weights."""
    gguf.convert(tiny_gguf, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 0.25,
        "rope_theta": 10000.0,
        "max_position_embeddings": 64,
        "vocab_size": 9,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "quantization": {"group_size": 32, "bits": 4},
    }


def test_names_of_the_weights(tiny_gguf: Path, tmp_path: Path) -> None:
    """Every tensor has the name of its module in mlx_lm."""
    gguf.convert(tiny_gguf, tmp_path)
    assert set(weights_in(tmp_path)) == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
    }


@pytest.mark.parametrize(
    ("projection", "rows"),
    [
        ("q_proj", [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]),
        ("k_proj", [0, 2, 4, 6, 1, 3, 5, 7]),
        ("v_proj", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_order_of_rows_for_the_rope(
    tiny_gguf: Path, tmp_path: Path, projection: str, rows: list[int]
) -> None:
    """In each head of q and k, the even rows come before the odd ones; v is unchanged."""
    gguf.convert(tiny_gguf, tmp_path)
    weights = weights_in(tmp_path)
    first_column = weights[f"model.layers.0.self_attn.{projection}.weight"][:, 0]
    assert first_column.tolist() == [row * 16 for row in rows]


def test_all_weights_of_the_real_model(smollm2_folder: Path) -> None:
    """The converted model has as many weights and as long a context as the original."""
    files = inspect_folder(smollm2_folder)
    assert files.parameters == EMBEDDED.parameters
    assert files.context_length == 8192


def test_modules_with_other_bits(smollm2_folder: Path) -> None:
    """The config says that the real model's embeddings have 8 bits, everything else 4."""
    assert json.loads((smollm2_folder / "config.json").read_text())["quantization"] == {
        "group_size": 32,
        "bits": 4,
        "model.embed_tokens": {"group_size": 32, "bits": 8},
    }


def test_norms_stay_in_single_precision(smollm2_folder: Path) -> None:
    """The norms stay float32, the scales float16: all float16 would be too slow on a CPU."""
    weights = weights_in(smollm2_folder)
    assert weights["model.norm.weight"].dtype == mx.float32
    assert weights["model.embed_tokens.weight"].dtype == mx.uint32
    assert weights["model.embed_tokens.scales"].dtype == mx.float16


@pytest.mark.parametrize(
    "text", ["Hello 1984, it's me.", "  two  spaces\n\n\ttab", "Grüße, 你好 🙂 ♭ → ✓", "<|im_end|>"]
)
def test_tokenizer_round_trip(tokenizer: Any, text: str) -> None:
    """Encoded text decodes to the same text."""
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_tokenizer_splits_numbers(tokenizer: Any) -> None:
    """Each digit is a token, as in the model's training."""
    assert tokenizer.tokenize("in 1984") == ["in", "Ġ", "1", "9", "8", "4"]


def test_special_tokens(tokenizer: Any) -> None:
    """A special token is encoded as one token, and decoding can leave it out."""
    assert tokenizer.encode("<|im_start|>user<|im_end|>") == [1, 4093, 2]
    assert tokenizer.decode([1, 4093, 2, 4], skip_special_tokens=True) == "user"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_chat_template(tokenizer: Any) -> None:
    """Messages are rendered in the format of the model's training."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_converts_in_any_thread(tiny_gguf: Path, tmp_path: Path) -> None:
    """The result is the same on a thread other than the main one."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    gguf.convert(tiny_gguf, here)
    with ThreadPoolExecutor(1) as other:
        other.submit(gguf.convert, tiny_gguf, there).result()
    for file in here.iterdir():
        assert (there / file.name).read_bytes() == file.read_bytes()


def test_prints_nothing(tiny_gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The conversion writes nothing to stdout and stderr."""
    gguf.convert(tiny_gguf, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_weights_that_cannot_be_written(tiny_gguf: Path, tmp_path: Path) -> None:
    """If MLX can't write the weights, that is an OSError, as for the other files."""
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        gguf.convert(tiny_gguf, tmp_path)


def test_missing_mlx(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MLX, the error says so and nothing is written."""
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    device.detect.cache_clear()
    with pytest.raises(ModelUnavailable, match="MLX"):
        gguf.convert(tiny_gguf, tmp_path)
    assert not (tmp_path / "config.json").exists()
