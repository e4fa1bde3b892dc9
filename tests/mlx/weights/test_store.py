"""Whether a local model can run here, wherever its files come from."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import llm
import pytest

from llm_tiered.errors import DamagedModel, DownloadError, ModelUnavailable
from llm_tiered.mlx import catalog, device
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.device import Device
from llm_tiered.mlx.weights import store
from llm_tiered.mlx.weights.inspect import inspect_folder
from llm_tiered.wording import gigabytes
from tests.hub_server import CHUNK, REPO, HubServer, model_files
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

pytest_plugins = ("tests.mlx.weights.local_hub",)

GB = 10**9
SMALL = ModelSpec("mlx/small", repo=REPO, parameters=1_000_000)
LARGE = ModelSpec("mlx/large", repo=REPO, parameters=7_600_000_000)
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder. Read only."""
    return build("qwen2", tmp_path_factory.mktemp("store") / "tiny")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A model's folder for one test."""
    return shutil.copytree(original, tmp_path / "tiny")


def use_device(monkeypatch: pytest.MonkeyPatch, kind: Literal["metal", "cpu"]) -> None:
    """Pretend to be a machine on which models may use 8 GB."""
    here = Device(kind, "a machine", memory=10 * GB, budget=8 * GB)
    monkeypatch.setattr(device, "detect", lambda: here)


def check(spec: ModelSpec, *, memory_limit: int | None = None, allow_cpu: bool = False) -> None:
    """Check a model with the defaults of the config."""
    store.check(spec, memory_limit=memory_limit, allow_cpu=allow_cpu)


def test_model_on_disk(folder: Path, connections: list[object]) -> None:
    """A small model on disk passes without any use of the network."""
    spec = ModelSpec("mlx/tiny", path=folder)
    check(spec)
    assert store.locate(spec) == store.fetch(spec) == folder
    assert connections == []


def test_model_on_the_hub(server: HubServer) -> None:
    """A model that is not on disk passes if the hub has it and the memory is large enough."""
    assert store.locate(SMALL) is None
    check(SMALL)
    assert store.locate(SMALL) is None


def test_downloaded_model(server: HubServer, connections: list[object]) -> None:
    """A downloaded model passes without asking the hub again."""
    folder = store.fetch(SMALL)
    connections.clear()
    check(SMALL)
    assert store.locate(SMALL) == store.fetch(SMALL) == folder
    assert connections == []


def test_large_model_is_too_slow_on_a_cpu(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a billion parameters are refused on a CPU, with a model that does better there."""
    use_device(monkeypatch, "cpu")
    with pytest.raises(ModelUnavailable, match=r"too slow on a CPU with its 7\.6 billion") as error:
        check(LARGE)
    assert "not downloaded" in error.value.message
    fix = "name a smaller model in the config, such as smollm2, or set allow_cpu: true there"
    assert error.value.fix == fix
    assert server.requests == []


def test_large_model_on_disk_is_too_slow_on_a_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a model on disk, its files count rather than the catalog."""
    use_device(monkeypatch, "cpu")
    monkeypatch.setattr(store, "CPU_PARAMETERS", inspect_folder(folder).parameters - 1)
    with pytest.raises(ModelUnavailable, match=r"^too slow on a CPU"):
        check(ModelSpec("mlx/tiny", path=folder, parameters=1))


def test_allow_cpu(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user can allow large models on a CPU; on a GPU they are always allowed."""
    use_device(monkeypatch, "cpu")
    check(LARGE, allow_cpu=True)
    use_device(monkeypatch, "metal")
    check(LARGE)


def test_model_on_disk_that_does_not_fit(folder: Path) -> None:
    """A model that needs more than the limit is refused, with the setting to change."""
    spec = ModelSpec("mlx/tiny", path=folder)
    size = inspect_folder(folder).size
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory") as error:
        check(spec, memory_limit=size)
    assert error.value.fix == "raise memory_limit in the config, or use a smaller model"
    check(spec, memory_limit=100 * size)


def test_error_for_a_model_asked_by_name(folder: Path) -> None:
    """The error for a model asked by name has the name, both sizes and what to do."""
    spec = ModelSpec("mlx/tiny", path=folder)
    needed, limit = inspect_folder(folder).memory, 5 * 10**7
    assert needed < limit
    assert store.ready(spec, memory_limit=limit) == folder
    with pytest.raises(ModelUnavailable) as error:
        store.ready(spec, memory_limit=1)
    assert str(error.value) == (
        f"mlx/tiny: needs {gigabytes(needed)} of memory, but models may use only 0 MB "
        "(raise memory_limit in the config, or use a smaller model)"
    )


def test_errors_keep_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding the model's name keeps the type and the fix of an error."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"^mlx/small: not downloaded, and .*llm tiered downl"):
        store.ready(SMALL, memory_limit=None)


def test_model_that_does_not_fit_the_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit in the config, the device's budget counts."""
    small_machine = Device("metal", "a machine", memory=20_000, budget=10_000)
    monkeypatch.setattr(device, "detect", lambda: small_machine)
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory"):
        check(ModelSpec("mlx/tiny", path=folder))


def test_model_on_the_hub_that_does_not_fit(server: HubServer) -> None:
    """A model that would not fit in memory is refused before it is downloaded."""
    server.repos[REPO] = model_files(1_000_000)
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory"):
        check(SMALL, memory_limit=1_000_000)
    assert server.sent(WEIGHTS) == 0


def test_half_downloaded_model_that_does_not_fit(server: HubServer) -> None:
    """A partially downloaded model counts with its full size."""
    server.repos[REPO] = model_files(CHUNK)
    server.cut_after = {WEIGHTS: CHUNK * 3 // 2}
    with pytest.raises(DownloadError):
        store.fetch(SMALL)
    server.refused.clear()
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory"):
        check(SMALL, memory_limit=CHUNK * 3 // 2)


@pytest.mark.parametrize("spec", [SMALL, catalog.EMBEDDED], ids=["hub", "embedded"])
def test_offline(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a model that is not on disk is refused, with the command that downloads it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError) as error:
        check(spec)
    assert error.value.message == "not downloaded, and HF_HUB_OFFLINE forbids it"
    assert f"llm tiered download {spec.model_id}" in str(error.value.fix)


def test_offline_with_the_files_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a model on disk passes."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(ModelSpec("mlx/tiny", path=folder))


def test_hub_without_the_model(server: HubServer) -> None:
    """The error for a repository that the hub does not have names it."""
    with pytest.raises(DownloadError, match=r"^not downloaded, and .* nobody/nothing"):
        check(ModelSpec("mlx/nothing", repo="nobody/nothing"))


def test_hub_that_fails(server: HubServer) -> None:
    """If the hub fails, the error gives its status."""
    server.status = 503
    with pytest.raises(DownloadError, match=r"^not downloaded, and .* 503"):
        check(SMALL)


def test_embedded_model_that_does_not_fit() -> None:
    """The embedded model's size is checked before it is fetched."""
    check(catalog.EMBEDDED, memory_limit=catalog.EMBEDDED.size)
    expected = "needs 100 MB of memory, but models may use only 1 MB"
    with pytest.raises(ModelUnavailable, match=f"^{expected}"):
        check(catalog.EMBEDDED, memory_limit=1_000_000)


def test_folder_that_is_gone(tmp_path: Path) -> None:
    """The error for a missing folder names it."""
    with pytest.raises(ModelUnavailable, match="nothing") as error:
        check(ModelSpec("mlx/tiny", path=tmp_path / "nothing"))
    assert error.value.fix == "check the path"


def test_damaged_folder(folder: Path) -> None:
    """A folder with truncated weights is refused, and the user is told to copy the file again."""
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(DamagedModel) as error:
        check(ModelSpec("mlx/tiny", path=folder))
    assert error.value.fix == "copy the file again"


def test_damaged_download(server: HubServer) -> None:
    """A damaged download is refused with the command that repairs it, and it does."""
    file = (store.fetch(SMALL) / WEIGHTS).resolve()
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(DamagedModel) as error:
        check(SMALL)
    assert error.value.fix == "llm tiered download mlx/small"
    folder = store.download(SMALL, show_progress=False)
    check(SMALL)
    assert (folder / WEIGHTS).read_bytes() == data


def test_limit_of_the_config_holds(folder: Path, config_file: Path) -> None:
    """A model above the config's memory_limit is refused, and answers once the limit is raised."""
    models = [{"id": "store", "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "memory_limit": "500kB"}))
    with pytest.raises(ModelUnavailable, match=r"^mlx/store: needs .* of memory"):
        llm.get_model("mlx/store").prompt("Hello", max_tokens=3).text()
    config_file.write_text(json.dumps({"models": models, "memory_limit": "500MB"}))
    assert llm.get_model("mlx/store").prompt("Hello", max_tokens=3).text()
