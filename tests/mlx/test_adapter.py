"""LoRA adapters: a model with an adapter is a model of its own."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import llm
import mlx.core as mx
import pytest

from llm_tiered.errors import ModelUnavailable, TieredError
from llm_tiered.mlx import device
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
NAME = "mlx/adapter"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model. Read only."""
    return build("qwen2", tmp_path_factory.mktemp("adapter"), layers=1)


def train(folder: Path, target: Path) -> Path:
    """Write an adapter for the model as `mlx_lm.lora` does, with random weights."""

    def write() -> None:
        import mlx_lm
        from mlx.utils import tree_flatten
        from mlx_lm.tuner.utils import linear_to_lora_layers

        settings = {"rank": 4, "scale": 20.0, "dropout": 0.0}
        model = mlx_lm.load(str(folder))[0]
        model.freeze()
        linear_to_lora_layers(model, 1, settings)
        key = mx.random.key(0)
        trained = {
            name: mx.random.normal(weight.shape, key=key)
            for name, weight in tree_flatten(model.trainable_parameters())
        }
        mx.save_safetensors(str(target / "adapters.safetensors"), trained)
        config = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": settings}
        (target / "adapter_config.json").write_text(json.dumps(config))

    device.run_apart(write)
    return target


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the model. Read only."""
    return train(folder, tmp_path_factory.mktemp("trained"))


def local(folder: Path, adapter: Path | None = None) -> MlxModel:
    """The model in a folder, with or without an adapter."""
    return MlxModel(ModelSpec(NAME, path=folder, adapter=adapter), Limits, lambda _: None)


def test_both_are_resident(folder: Path, adapter: Path) -> None:
    """With an adapter the model answers differently, and is kept in memory beside the plain one."""
    plain, trained = local(folder), local(folder, adapter)
    texts = [model.prompt("Hello", **GREEDY).text() for model in (plain, trained, plain, trained)]
    assert texts[:2] == texts[2:]
    assert texts[0] != texts[1]
    assert list(ENGINE.resident())[-2:] == [NAME, f"{NAME}+{adapter}"]


def test_adapter_in_the_config(folder: Path, adapter: Path, config_file: Path) -> None:
    """The config can give a model an adapter."""
    models = [{"id": "adapter", "path": str(folder), "adapter": str(adapter)}]
    config_file.write_text(json.dumps({"models": models}))
    text = llm.get_model("mlx/adapter").prompt("Hello", **GREEDY).text()
    assert text == local(folder, adapter).prompt("Hello", **GREEDY).text()


def test_missing_adapter(folder: Path, tmp_path: Path) -> None:
    """The error for a missing adapter names its folder; the plain model still answers."""
    with pytest.raises(ModelUnavailable, match=r"adapter.*nowhere") as refused:
        local(folder, tmp_path / "nowhere").prompt("Hello", **GREEDY).text()
    assert "\n" not in str(refused.value)
    assert local(folder).prompt("Hello", **GREEDY).text()


def test_adapter_of_another_model(adapter: Path, tmp_path: Path) -> None:
    """An adapter that does not fit the model's shape is refused, and the error names it."""
    wide = build("qwen2", tmp_path / "wide", layers=1, hidden=128)
    with pytest.raises(TieredError, match="adapter") as refused:
        local(wide, adapter).prompt("Hello", **GREEDY).text()
    assert str(adapter) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_adapter_of_another_library(folder: Path, adapter: Path, tmp_path: Path) -> None:
    """An adapter in PEFT's format is refused; the plain model still answers."""
    other = shutil.copytree(adapter, tmp_path / "peft")
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (other / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelUnavailable, match="not in mlx_lm's format") as refused:
        local(folder, other).prompt("Hello", **GREEDY).text()
    assert str(other) in str(refused.value)
    assert local(folder).prompt("Hello", **GREEDY).text()
