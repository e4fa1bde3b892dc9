"""A tiny GGUF file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import pytest

if TYPE_CHECKING:
    from pathlib import Path


TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "1", "2", "a", "b", "ab", "12"]
WIDTH, HEADS, KV_HEADS, HEAD_WIDTH = 16, 2, 1, 8


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file with one layer and nine tokens, whose weights count up. Read only."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    rows = {
        "token_embd.weight": len(TOKENS),
        "blk.0.attn_q.weight": HEADS * HEAD_WIDTH,
        "blk.0.attn_k.weight": KV_HEADS * HEAD_WIDTH,
        "blk.0.attn_v.weight": KV_HEADS * HEAD_WIDTH,
    }
    tensors = {
        name: mx.arange(count * WIDTH, dtype=mx.float32).reshape(count, WIDTH)
        for name, count in rows.items()
    }
    tensors["output_norm.weight"] = mx.ones(WIDTH)
    mx.save_gguf(
        str(file),
        tensors,
        {
            "llama.embedding_length": _number(WIDTH),
            "llama.feed_forward_length": _number(32),
            "llama.block_count": _number(1),
            "llama.attention.head_count": _number(HEADS),
            "llama.attention.head_count_kv": _number(KV_HEADS),
            "llama.attention.layer_norm_rms_epsilon": mx.array(0.25),
            "llama.rope.freq_base": mx.array(10000.0),
            "llama.context_length": _number(64),
            "llama.vocab_size": _number(len(TOKENS)),
            "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": mx.array([3] * 3 + [1] * 6),
            "tokenizer.ggml.merges": ["a b", "1 2"],
            "tokenizer.ggml.unknown_token_id": _number(0),
            "tokenizer.ggml.bos_token_id": _number(1),
            "tokenizer.ggml.eos_token_id": _number(2),
            "tokenizer.ggml.padding_token_id": _number(2),
            "tokenizer.chat_template": "{{ messages[0]['content'] }}",
        },
    )
    return file


def _number(value: int) -> mx.array:
    return mx.array(value, mx.uint32)
