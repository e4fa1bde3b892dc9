"""Models of real shapes with random weights."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import mlx_lm
import pytest

from llm_tiered.bench import synthetic
from llm_tiered.errors import RequestError
from llm_tiered.mlx.weights.inspect import inspect_folder

if TYPE_CHECKING:
    from pathlib import Path

LONGROPE = {"type": "longrope", "long_factor": [1.0] * 16, "short_factor": [1.0] * 16}
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
}
NAMES = list(synthetic.SHAPES)


def shrunken(name: str) -> dict[str, Any]:
    """A shape of the same kind with small sizes."""
    shape = synthetic.SHAPES[name] | SMALL
    return shape | ({"rope_scaling": LONGROPE} if "rope_scaling" in shape else {})


@pytest.mark.parametrize("name", NAMES)
def test_random_model(name: str, tmp_path: Path) -> None:
    """A random model loads as a model of its family, in 4 bits, and generates text."""
    folder = synthetic.build(shrunken(name), tmp_path / "model")
    model, tokenizer = mlx_lm.load(str(folder))[:2]
    assert (len(model.layers), model.args.hidden_size) == (3, 128)
    assert model.layers[0].self_attn.o_proj.bits == 4
    chat = [{"role": "user", "content": "Hello there"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    responses = list(mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=8))
    assert responses[-1].generation_tokens == 8
    assert "".join(response.text for response in responses)
    assert responses[-1].logprobs.std().item() > 0.1


def test_weights_are_random_in_every_nibble(tmp_path: Path) -> None:
    """All eight weights in a word have the right mean and deviation, or a deep model overflows."""
    folder = synthetic.build(shrunken("phi-3.5-mini"), tmp_path / "model")
    weights: Any = mx.load(str(folder / "model-0.safetensors"))
    name = "model.layers.0.mlp.down_proj"
    words, scales, biases = (weights[f"{name}.{part}"] for part in ("weight", "scales", "biases"))
    values = mx.dequantize(words, scales, biases, group_size=64, bits=4).astype(mx.float32)
    places = values.reshape(-1, 8) * 256**0.5  # it has 256 inputs
    assert mx.allclose(places.mean(axis=0), mx.zeros(8), atol=0.1)
    assert mx.allclose(places.std(axis=0), mx.ones(8), atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_files(name: str, tmp_path: Path) -> None:
    """There is a shard for each layer, and the config says 4 bits in groups of 64."""
    folder = synthetic.build(shrunken(name), tmp_path / "model")
    assert inspect_folder(folder).model_type == synthetic.SHAPES[name]["model_type"]
    assert {f"model-{layer}.safetensors" for layer in range(3)} < {
        file.name for file in folder.iterdir()
    }
    quantization = json.loads((folder / "config.json").read_text())["quantization"]
    assert quantization == {"group_size": 64, "bits": 4}


class Real(NamedTuple):
    """The parameters of a real model in billions, and its size in gigabytes."""

    parameters: float
    size: float


@pytest.mark.parametrize(
    ("name", "real"),
    [("phi-3.5-mini", Real(3.8, 2.15)), ("qwen2.5-7b", Real(7.6, 4.28))],
)
def test_size_of_real_models(name: str, real: Real) -> None:
    """The weights have the size of the real models in 4 bits."""
    size = synthetic.weight_bytes(synthetic.SHAPES[name])
    assert size / 1e9 == pytest.approx(real.size, abs=0.02)
    assert size * 8 / 4.5e9 == pytest.approx(real.parameters, abs=0.05)


def test_predicted_size(tmp_path: Path) -> None:
    """The predicted size is close to the real one."""
    shape = shrunken("qwen2.5-7b")
    folder = synthetic.build(shape, tmp_path / "model")
    assert synthetic.weight_bytes(shape) == pytest.approx(inspect_folder(folder).size, rel=0.1)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk has too little space, nothing is written and the error names the fix."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(RequestError, match=r"needs 4\.3 GB of disk") as caught:
        synthetic.build(synthetic.SHAPES["qwen2.5-7b"], tmp_path / "model")
    assert "TMPDIR" in str(caught.value)
    assert not list((tmp_path / "model").iterdir())


@pytest.mark.parametrize("size", [500, 32_064, 152_064])
def test_tokenizer(size: int) -> None:
    """A tokenizer of any size restores every text, and has fewer tokens than bytes."""
    tokenizer = synthetic.make_tokenizer(size)
    assert len(tokenizer) == size
    text = '{"title": "The fox, and the bird", "difficulty": 3} Grüße, ♭!'
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert len(tokens) < len(text.encode())
    assert tokenizer.encode("<|im_end|>") == [tokenizer.eos_token_id]
