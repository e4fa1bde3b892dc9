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
    """Give a folder with a whole model in it."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in model_files().items():
        (folder / name).write_bytes(data)
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Put another config into the folder."""
    (folder / "config.json").write_text(json.dumps(config))


def write_weights(folder: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """Put other weights into the folder."""
    (folder / WEIGHTS).write_bytes(safetensors(tensors))


def test_tells_what_a_folder_holds(folder: Path) -> None:
    """Size, parameters, context, cache and kind are read off the files."""
    assert inspect_folder(folder) == ModelFiles(
        path=folder,
        size=(folder / WEIGHTS).stat().st_size,
        parameters=1_000,
        context_length=512,
        kv_bytes_per_token=2 * 3 * 2 * 16 * 2,
        model_type="qwen2",
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_counts_quantised_weights_as_they_were(folder: Path, bits: int) -> None:
    """Packed words are unpacked for the count; scales and biases of quantised layers are none."""
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


def test_counts_each_layer_by_its_own_bits(folder: Path) -> None:
    """A layer's own entry in the config beats the general one; false means the general one."""
    quantization = {"bits": 4, "group_size": 64, "a": {"bits": 8, "group_size": 64}, "b": False}
    write_config(folder, CONFIG | {"quantization": quantization})
    tensors = {f"{name}.weight": ("U32", [10]) for name in "ab"}
    write_weights(folder, tensors | {f"{name}.scales": ("F16", [1]) for name in "ab"})
    assert inspect_folder(folder).parameters == 10 * 4 + 10 * 8


def test_adds_shards_up(folder: Path) -> None:
    """Size and parameters go over all the weights files, and scales may lie in another one."""
    (folder / WEIGHTS).unlink()
    write_config(folder, CONFIG | {"quantization": {"group_size": 64, "bits": 4}})
    first, second = folder / "model-1.safetensors", folder / "model-2.safetensors"
    first.write_bytes(safetensors({"a.weight": ("U32", [8]), "b.weight": ("F16", [5])}))
    second.write_bytes(safetensors({"a.scales": ("F16", [1]), "c.weight": ("F16", [7])}))
    found = inspect_folder(folder)
    assert found.parameters == 8 * 8 + 5 + 7
    assert found.size == first.stat().st_size + second.stat().st_size


def test_needs_to_know_the_bits(folder: Path) -> None:
    """Quantised weights without a word of it in the config are told."""
    write_weights(folder, {"a.weight": ("U32", [8]), "a.scales": ("F16", [1])})
    with pytest.raises(ModelUnavailable, match="does not say with how many bits"):
        inspect_folder(folder)


def test_looks_into_the_text_part_of_a_config(folder: Path) -> None:
    """A model that also sees keeps what we look for under text_config."""
    text = {name: value for name, value in CONFIG.items() if name != "model_type"}
    write_config(folder, {"model_type": "qwen3_vl", "text_config": text | {"head_dim": 32}})
    found = inspect_folder(folder)
    assert found.context_length == 512
    assert found.kv_bytes_per_token == 2 * 3 * 2 * 32 * 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"head_dim": 128}, 2 * 3 * 2 * 128 * 2),
        ({"head_dim": None}, 2 * 3 * 2 * 16 * 2),
        ({"num_key_value_heads": None}, 2 * 3 * 4 * 16 * 2),
        ({"num_hidden_layers": None}, None),
        ({"num_attention_heads": None}, None),
        ({"hidden_size": None}, None),
    ],
)
def test_estimates_the_cache(folder: Path, changes: dict[str, Any], expected: int | None) -> None:
    """The bytes a token takes in the cache follow from the config, where it says enough."""
    write_config(folder, CONFIG | changes)
    assert inspect_folder(folder).kv_bytes_per_token == expected


def test_context_may_be_unknown(folder: Path) -> None:
    """A config without max_position_embeddings gives no context length."""
    write_config(folder, {"model_type": "mamba"})
    assert inspect_folder(folder).context_length is None


def test_tells_that_there_is_no_folder(tmp_path: Path) -> None:
    """A path to nowhere is named."""
    with pytest.raises(ModelUnavailable, match=r"there is no folder .*/gone \(check the path\)"):
        inspect_folder(tmp_path / "gone")


def test_tells_a_file_from_a_folder(folder: Path) -> None:
    """A path to a file is told as that."""
    with pytest.raises(ModelUnavailable, match=r"config\.json is no folder"):
        inspect_folder(folder / "config.json")


def test_tells_that_the_config_is_missing(folder: Path) -> None:
    """Without config.json a folder is no MLX model."""
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"is no MLX model: it has no config\.json"):
        inspect_folder(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\xfa", b"", b"[]"])
def test_tells_that_the_config_is_no_json(folder: Path, content: bytes) -> None:
    """A config that can't be read is named, and where it is wrong."""
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"config\.json is not (a )?JSON"):
        inspect_folder(folder)


def test_tells_that_the_config_names_no_model(folder: Path) -> None:
    """A config of something else than a model is told."""
    write_config(folder, {"name": "package"})
    with pytest.raises(ModelUnavailable, match="names no model_type"):
        inspect_folder(folder)


@pytest.mark.parametrize("name", ["model.gguf", "weights.npz", "pytorch_model.bin"])
def test_tells_another_format(folder: Path, name: str) -> None:
    """Weights of another format are named, with what MLX wants instead."""
    (folder / WEIGHTS).rename(folder / name)
    with pytest.raises(ModelUnavailable, match=f"only {name}: MLX wants safetensors"):
        inspect_folder(folder, fix="download it")


def test_tells_that_the_weights_are_missing(folder: Path) -> None:
    """A folder without any weights is told."""
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelUnavailable, match=r"no weights: .*model\*\.safetensors") as raised:
        inspect_folder(folder)
    assert raised.value.fix == MLX_BUILD
    with pytest.raises(ModelUnavailable) as raised:
        inspect_folder(folder, fix="download it")
    assert raised.value.fix == "download it"


def test_tells_that_the_tokenizer_is_missing(folder: Path) -> None:
    """Either kind of tokenizer will do, and none is told."""
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    inspect_folder(folder)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(ModelUnavailable, match=r"neither tokenizer\.json nor tokenizer\.model"):
        inspect_folder(folder)


def test_names_the_shards_that_are_missing(folder: Path) -> None:
    """Every file that the index names has to be there."""
    shards = {f"layer.{i}": f"model-{i}.safetensors" for i in range(5)} | {"norm": WEIGHTS}
    (folder / INDEX).write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(DamagedModel, match=r"lacks 5 .*: model-0\.safetensors, .*, … \(copy"):
        inspect_folder(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 1}'])
def test_tells_a_damaged_index(folder: Path, content: str) -> None:
    """An index that can't be read is named."""
    (folder / INDEX).write_text(content)
    with pytest.raises(DamagedModel, match=r"index\.json is no index of weights"):
        inspect_folder(folder)


@pytest.mark.parametrize("kept", [0, 5, 8, 100])
def test_tells_a_file_cut_off_in_its_header(folder: Path, kept: int) -> None:
    """A file that ends in its header is named with what it has and what it wants."""
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DamagedModel, match=rf"model\.safetensors is damaged: it has {kept} bytes"):
        inspect_folder(folder)


def test_tells_a_file_cut_off_in_its_weights(folder: Path) -> None:
    """A file that ends in its weights is named with both sizes and what to do."""
    file = folder / WEIGHTS
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    sizes = rf"has {len(data) - 1:,} bytes where its header wants at least {len(data):,}"
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
def test_tells_a_damaged_header(folder: Path, header: bytes) -> None:
    """A header that is no JSON, or JSON of another kind, is told."""
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(100))
    with pytest.raises(DamagedModel, match="do not start with a safetensors header"):
        inspect_folder(folder)


@pytest.mark.parametrize("content", [bytes(1_000), b"version https://git-lfs.github.com/spec/v1"])
def test_tells_a_file_of_something_else(folder: Path, content: bytes) -> None:
    """Zeros, or the pointer that git leaves without LFS, are told as no safetensors file."""
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
        """Whether an inspection reads the files; a second one right after it never does."""
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
    """A damaged file is found after an inspection, though its size and time are the same."""
    file, damaged = folder / WEIGHTS, folder / "damaged"
    inspect_folder(folder)
    damaged.write_bytes(bytes(file.stat().st_size))
    os.utime(damaged, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    damaged.replace(file)
    with pytest.raises(DamagedModel):
        inspect_folder(folder)


def test_tells_what_the_system_says(folder: Path) -> None:
    """A file that can't be read is named with the system's reason."""
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(ModelUnavailable, match=r"Can't read .*/model\.safetensors: Is a directory"):
        inspect_folder(folder)


def test_costs_no_import() -> None:
    """Looking at files imports nothing that takes long."""
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
