from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
import yaml

from llm_tiered.mlx import device
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.process import client
from llm_tiered.mlx.process.client import RunningEngine
from llm_tiered.mlx.process.place import EngineFiles
from llm_tiered.mlx.weights import embedded
from tests.batch.echo import Echoes, config, registered
from tests.cli.commands import CLOUD, configure, tier
from tests.cli.engines import status
from tests.hub_server import HubServer
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _empty_engine() -> Iterator[None]:
    """Leave no model in memory for the next test."""
    yield
    ENGINE.close()


@pytest.fixture
def engine_says(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let an engine run that says this of itself."""

    def say(content: dict[str, Any] | None = None) -> None:
        place = EngineFiles(Path("/engine"), "host")
        engine = RunningEngine(place, status() if content is None else content)
        monkeypatch.setattr(client, "look", lambda _, **__: engine)

    return say


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The engines that `verify` starts to try it, as the seconds for which they would stay."""
    engines: list[float] = []

    class Starting:
        """An engine that can be started."""

        def __init__(self, keep_warm: float) -> None:
            engines.append(keep_warm)

        def wait(self) -> None:
            """It is ready."""

    monkeypatch.setattr("llm_tiered.cli.verify.Starting", Starting)
    return engines


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that works; read only."""
    return build("qwen2", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tiny(built: Path, tmp_path: Path) -> Path:
    """A tiny model that the test may change."""
    return shutil.copytree(built, tmp_path / "tiny")


@pytest.fixture
def tiny_tiers(tiny: Path) -> Path:
    """The config file, with a tiny model for the small and the medium tier."""
    return configure(
        tier("small", "1-4", "mlx/tiny", max_tokens=8),
        tier("medium", "5-7", "mlx/larger", max_tokens=8),
        tier("cloud", "8-10", CLOUD),
        models=[
            {"id": "mlx/tiny", "path": str(tiny), "aliases": ["wee"]},
            {"id": "mlx/larger", "path": str(tiny)},
        ],
    )


@pytest.fixture
def embedded_model(built: Path) -> Path:
    """A tiny model in place of the embedded one."""
    return shutil.copytree(built, embedded.folder())


@pytest.fixture
def server(built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that has the tiny model, and an empty cache."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    files = {file.name: file.read_bytes() for file in built.iterdir()}
    with HubServer(repos={"tiny/model": files}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def no_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every import of MLX fail, as on a machine without a backend."""
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    device.detect.cache_clear()


@pytest.fixture
def echoes(config_file: Path) -> Iterator[Echoes]:
    """Tiers that echo their prompts, log nothing and have no fallback."""
    config_file.write_text(yaml.safe_dump(config()))
    with registered() as plugin:
        yield plugin


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of an output that does not exist yet."""
    return tmp_path / "answers.jsonl"
