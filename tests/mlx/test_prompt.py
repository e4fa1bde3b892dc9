"""The way of a prompt to the engine: its model is inspected once, and the hub asked once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.mlx.weights import inspect
from tests.hub_server import REPO, HubServer
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ("tests.mlx.weights.local_hub",)

OPTIONS: dict[str, Any] = {"max_tokens": 2}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that can answer."""
    return build("qwen2", tmp_path_factory.mktemp("prompt"), layers=1)


@pytest.fixture
def inspections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The weights files whose headers have been read, in order."""
    names: list[str] = []
    read_header = inspect._read_header

    def note(file: Path, fix: str | None) -> Any:
        names.append(file.name)
        return read_header(file, fix)

    monkeypatch.setattr(inspect, "_read_header", note)
    return names


def local_model(spec: ModelSpec) -> MlxModel:
    """The model as llm has it, where no other local model is known."""
    return MlxModel(spec, Limits, lambda _: None)


def test_cold_folder_is_inspected_once(
    original: Path, tmp_path: Path, inspections: list[str]
) -> None:
    """A model's files are read once from the router's check to the loaded weights."""
    folder = tmp_path / "cold"
    folder.symlink_to(original)
    model = local_model(ModelSpec("mlx/cold", path=folder))
    model.check(allow_cpu=False)
    assert model.prompt("Hello", **OPTIONS).text()
    assert ENGINE.resident()["mlx/cold"] == folder
    assert inspections == ["model.safetensors"]


async def test_cold_folder_is_inspected_once_in_asyncio(
    original: Path, tmp_path: Path, inspections: list[str]
) -> None:
    """The same holds for the async model."""
    folder = tmp_path / "cold"
    folder.symlink_to(original)
    model = AsyncMlxModel(ModelSpec("mlx/cold-async", path=folder), Limits, lambda _: None)
    model.check(allow_cpu=False)
    assert await model.prompt("Hello", **OPTIONS).text()
    assert inspections == ["model.safetensors"]


def test_loaded_model_is_not_inspected(original: Path, inspections: list[str]) -> None:
    """A model in memory answers without another look at its files."""
    model = local_model(ModelSpec("mlx/warm", path=original))
    model.prompt("Hello", **OPTIONS).text()
    inspections.clear()
    model.check(allow_cpu=False)
    model.prompt("Hello again", **OPTIONS).text()
    assert inspections == []


@pytest.mark.parametrize("checked", [True, False], ids=["through the router", "by name"])
def test_missing_model_costs_one_question(
    original: Path, server: HubServer, inspections: list[str], checked: bool
) -> None:
    """The hub is asked once about a model that is not on disk, and then sends its files."""
    server.repos[REPO] = {file.name: file.read_bytes() for file in original.iterdir()}
    model = local_model(ModelSpec(f"mlx/missing-{checked}", repo=REPO, tools=False))
    if checked:
        model.check(allow_cpu=False)
    assert model.prompt("Hello", **OPTIONS).text()
    assert server.questions == [f"/api/models/{REPO}"]
    assert inspections == ["model.safetensors"]


def test_check_of_a_resident_model_does_not_block(original: Path) -> None:
    """A model in the memory of this process is checked without files, and others are not."""
    model = local_model(ModelSpec("mlx/resident", path=original))
    assert model.check_may_block()
    assert model.prompt("Hello", **OPTIONS).text()
    assert not model.check_may_block()
