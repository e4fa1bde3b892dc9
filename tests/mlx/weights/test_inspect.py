"""Model folders on disk: what they hold, and errors for incomplete or damaged ones."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_tiered.errors import DamagedModel, ModelUnavailable
from llm_tiered.mlx.weights import inspect
from llm_tiered.mlx.weights.inspect import INDEX, MLX_BUILD, ModelFiles, inspect_folder
from tests.hub_server import CONFIG, model_files, safetensors

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a complete model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in model_files().items():
        (folder / name).write_bytes(data)
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Replace the config in the folder."""
    (folder / "config.json").write_text(json.dumps(config))


def write_weights(folder: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """Replace the weights in the folder."""
    (folder / WEIGHTS).write_bytes(safetensors(tensors))


def test_complete_model(folder: Path) -> None:
    """Size, parameters, context length, KV cache and model type are read from the files."""
    assert inspect_folder(folder) == ModelFiles(
        path=folder,
        size=(folder / WEIGHTS).stat().st_size,
        parameters=1_000,
        context_length=512,
        kv_bytes_per_token=2 * 3 * 2 * 16 * 2,
        logits=None,
        model_type="qwen2",
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_quantised_weights(folder: Path, bits: int) -> None:
    """Quantised weights count as before packing; their scales and biases don't count."""
    write_config(folder, CONFIG | {"quantization": {"group_size": 64, "bits": bits}})
    words = 64 * bits // 32
    tensors = {
        "model.q_proj.weight": ("U32", [128, words]),
        "model.q_proj.scales": ("F16", [128, 1]),
        "model.q_proj.biases": ("F16", [128, 1]),
        "model.q_proj.bias": ("F16", [128]),
        "model.norm.weight": ("F16", [64]),
        "model.plain.scales": ("F16", [5]),
    }
    write_weights(folder, tensors)
    assert inspect_folder(folder).parameters == 128 * 64 + 128 + 64 + 5


def test_bits_of_a_layer(folder: Path) -> None:
    """A layer's own entry in the config overrides the general one; false means the general one."""
    quantization = {"bits": 4, "group_size": 64, "a": {"bits": 8, "group_size": 64}, "b": False}
    write_config(folder, CONFIG | {"quantization": quantization})
    tensors = {f"{name}.weight": ("U32", [10]) for name in "ab"}
    write_weights(folder, tensors | {f"{name}.scales": ("F16", [1]) for name in "ab"})
    assert inspect_folder(folder).parameters == 10 * 4 + 10 * 8


def test_several_weights_files(folder: Path) -> None:
    """Size and parameters include every weights file; scales may be in another file."""
    (folder / WEIGHTS).unlink()
    write_config(folder, CONFIG | {"quantization": {"group_size": 64, "bits": 4}})
    first, second = folder / "model-1.safetensors", folder / "model-2.safetensors"
    first.write_bytes(safetensors({"a.weight": ("U32", [8]), "b.weight": ("F16", [5])}))
    second.write_bytes(safetensors({"a.scales": ("F16", [1]), "c.weight": ("F16", [7])}))
    files = inspect_folder(folder)
    assert files.parameters == 8 * 8 + 5 + 7
    assert files.size == first.stat().st_size + second.stat().st_size


def test_unknown_bits(folder: Path) -> None:
    """Quantised weights that the config does not mention are an error."""
    write_weights(folder, {"a.weight": ("U32", [8]), "a.scales": ("F16", [1])})
    with pytest.raises(ModelUnavailable, match="does not say to how many bits"):
        inspect_folder(folder)


def test_multimodal_config(folder: Path) -> None:
    """A multimodal model has the language model's numbers under text_config."""
    text = {name: value for name, value in CONFIG.items() if name != "model_type"}
    text |= {"head_dim": 32, "vocab_size": 64}
    write_config(folder, {"model_type": "qwen3_vl", "text_config": text})
    files = inspect_folder(folder)
    assert files.logits == 64
    assert files.context_length == 512
    assert files.kv_bytes_per_token == 2 * 3 * 2 * 32 * 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"head_dim": 128}, 2 * 3 * 2 * 128 * 2),
        ({"head_dim": None}, 2 * 3 * 2 * 16 * 2),
        ({"num_key_value_heads": None}, 2 * 3 * 4 * 16 * 2),
        ({"full_attention_interval": 3}, 2 * 1 * 2 * 16 * 2),
        ({"num_hidden_layers": None}, None),
        ({"num_attention_heads": None}, None),
        ({"hidden_size": None}, None),
    ],
)
def test_kv_bytes_per_token(folder: Path, changes: dict[str, Any], expected: int | None) -> None:
    """A token's bytes in the KV cache follow from the config, if it says enough."""
    write_config(folder, CONFIG | changes)
    assert inspect_folder(folder).kv_bytes_per_token == expected


def test_unknown_context_length(folder: Path) -> None:
    """Without max_position_embeddings in the config, the context length is None."""
    write_config(folder, {"model_type": "mamba"})
    assert inspect_folder(folder).context_length is None


def test_missing_folder(tmp_path: Path) -> None:
    """The error for a missing folder names its path."""
    with pytest.raises(ModelUnavailable, match=r"there is no folder .*/gone \(check the path\)"):
        inspect_folder(tmp_path / "gone")


def test_file_instead_of_a_folder(folder: Path) -> None:
    """The error for the path of a file says that it is not a folder."""
    with pytest.raises(ModelUnavailable, match=r"config\.json is not a folder"):
        inspect_folder(folder / "config.json")


def test_missing_config(folder: Path) -> None:
    """A folder without config.json is not an MLX model."""
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"is not an MLX model: it has no config\.json"):
        inspect_folder(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\xfa", b"", b"[]"])
def test_invalid_config(folder: Path, content: bytes) -> None:
    """The error for a config that is not a JSON object names the file."""
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"config\.json is not (a )?JSON"):
        inspect_folder(folder)


def test_config_without_model_type(folder: Path) -> None:
    """A config of something other than a model is an error."""
    write_config(folder, {"name": "package"})
    with pytest.raises(ModelUnavailable, match=r"not an MLX model: its config\.json has no model"):
        inspect_folder(folder)


@pytest.mark.parametrize("name", ["model.gguf", "weights.npz", "pytorch_model.bin"])
def test_weights_in_another_format(folder: Path, name: str) -> None:
    """The error for weights in another format names them and the format that MLX needs."""
    (folder / WEIGHTS).rename(folder / name)
    expected = rf"holds only {name}, but MLX needs model\*\.safetensors"
    with pytest.raises(ModelUnavailable, match=expected):
        inspect_folder(folder, fix="download it")


def test_missing_weights(folder: Path) -> None:
    """A folder without any weights is an error; the caller can say what to do."""
    (folder / WEIGHTS).unlink()
    expected = r"holds no weights, but MLX needs model\*\.safetensors"
    with pytest.raises(ModelUnavailable, match=expected) as raised:
        inspect_folder(folder)
    assert raised.value.fix == MLX_BUILD
    with pytest.raises(ModelUnavailable) as raised:
        inspect_folder(folder, fix="download it")
    assert raised.value.fix == "download it"


def test_missing_tokenizer(folder: Path) -> None:
    """Either kind of tokenizer is enough; without one there is an error."""
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    inspect_folder(folder)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(ModelUnavailable, match=r"neither tokenizer\.json nor tokenizer\.model"):
        inspect_folder(folder)


def test_missing_weights_files(folder: Path) -> None:
    """The error names the first missing files of those in the index."""
    shards = {f"layer.{i}": f"model-{i}.safetensors" for i in range(5)} | {"norm": WEIGHTS}
    (folder / INDEX).write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(DamagedModel, match=r"lacks 5 .*: model-0\.safetensors, .*, … \(copy"):
        inspect_folder(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 1}'])
def test_damaged_index(folder: Path, content: str) -> None:
    """The error for an index that can't be read names the file."""
    (folder / INDEX).write_text(content)
    with pytest.raises(DamagedModel, match=r"index\.json is not an index of weights"):
        inspect_folder(folder)


@pytest.mark.parametrize("length", [0, 5, 8, 100])
def test_file_cut_off_in_its_header(folder: Path, length: int) -> None:
    """The error for a file that ends in its header says how long it is."""
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:length])
    expected = rf"model\.safetensors is damaged: it has {length} bytes"
    with pytest.raises(DamagedModel, match=expected):
        inspect_folder(folder)


def test_file_cut_off_in_its_weights(folder: Path) -> None:
    """The error for a file that ends in its weights gives both sizes and what to do."""
    file = folder / WEIGHTS
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    sizes = rf"has {len(data) - 1:,} bytes, but its header needs at least {len(data):,}"
    with pytest.raises(DamagedModel, match=rf"{sizes} \(copy the file again\)"):
        inspect_folder(folder)
    with pytest.raises(DamagedModel, match=rf"{sizes} \(llm tiered download phi\)"):
        inspect_folder(folder, fix="llm tiered download phi")


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": {"dtype": "F16", "shape": ["x"], "data_offsets": [0, 2]}}',
        b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": []}}',
    ],
)
def test_damaged_header(folder: Path, header: bytes) -> None:
    """A header that is not JSON, or not the JSON of a header, is an error."""
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(100))
    with pytest.raises(DamagedModel, match="do not start with a safetensors header"):
        inspect_folder(folder)


@pytest.mark.parametrize("content", [bytes(1_000), b"version https://git-lfs.github.com/spec/v1"])
def test_file_of_another_kind(folder: Path, content: bytes) -> None:
    """Zeros, or the pointer that git leaves without LFS, are not a safetensors file."""
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(DamagedModel, match=f"its {len(content):,} bytes do not start with"):
        inspect_folder(folder)


def test_unchanged_folder_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is read again only after a file in it was written, replaced, added or removed."""
    reads: list[Path] = []
    read_folder = inspect._read_folder

    def note(path: Path, fix: str | None) -> ModelFiles:
        reads.append(path)
        return read_folder(path, fix)

    def reread() -> bool:
        """Whether the files are read again; a second inspection must not read them."""
        reads.clear()
        assert inspect_folder(folder) == inspect_folder(folder)
        return len(reads) == 1

    monkeypatch.setattr(inspect, "_read_folder", note)
    assert reread()
    assert not reread()
    extra = folder / "model-extra.safetensors"
    for change in (
        lambda: write_weights(folder, {"a": ("F16", [2_000])}),
        lambda: (folder / "other").write_bytes((folder / WEIGHTS).read_bytes()),
        lambda: (folder / "other").replace(folder / WEIGHTS),
        lambda: extra.write_bytes((folder / WEIGHTS).read_bytes()),
        extra.unlink,
    ):
        change()
        assert reread()
    assert not reread()


def test_damage_is_noticed(folder: Path) -> None:
    """Damage after an inspection is noticed even if the file's size and time stay the same."""
    file, damaged = folder / WEIGHTS, folder / "damaged"
    inspect_folder(folder)
    damaged.write_bytes(bytes(file.stat().st_size))
    os.utime(damaged, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    damaged.replace(file)
    with pytest.raises(DamagedModel):
        inspect_folder(folder)


def test_unreadable_file(folder: Path) -> None:
    """The error for a file that can't be read gives the system's reason."""
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(ModelUnavailable, match=r"can't read .*/model\.safetensors: Is a directory"):
        inspect_folder(folder)


def test_costs_no_import() -> None:
    """Inspecting files does not import any slow library."""
    code = (
        "import sys; import llm_tiered.mlx.weights.inspect; "
        "print({'mlx', 'safetensors', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout == "set()\n"
