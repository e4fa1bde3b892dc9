from __future__ import annotations

import json
from typing import TYPE_CHECKING

import huggingface_hub
import llm
import pytest
from huggingface_hub import constants

from llm_tiered.errors import DamagedModel, DownloadError, ModelUnavailable
from llm_tiered.mlx import catalog, device
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.device import Device
from llm_tiered.mlx.weights import store
from llm_tiered.mlx.weights.inspect import inspect_folder
from tests.hub_server import REPO, HubServer, model_files
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

GB = 10**9
SMALL = ModelSpec("mlx/small", repo=REPO, parameters=1_000_000)
LARGE = ModelSpec("mlx/large", repo=REPO, parameters=7_600_000_000)
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a model's folder."""
    return build("qwen2", tmp_path / "tiny")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Give a hub with one small model."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with HubServer(repos={REPO: model_files()}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        huggingface_hub.close_session()


def use_device(monkeypatch: pytest.MonkeyPatch, kind: Literal["metal", "cpu"]) -> None:
    """Put another machine in this one's place, where models may use 8 GB."""
    here = Device(kind, "a machine", memory=10 * GB, budget=8 * GB)
    monkeypatch.setattr(device, "detect", lambda: here)


def check(spec: ModelSpec, *, memory_limit: int | None = None, allow_cpu: bool = False) -> None:
    """Check a model as a request does, with the defaults of the config."""
    store.check(spec, memory_limit=memory_limit, allow_cpu=allow_cpu)


def test_model_in_a_folder_is_ready(folder: Path, connections: list[object]) -> None:
    """A small model on disk passes, and no network is asked."""
    spec = ModelSpec("mlx/tiny", path=folder)
    check(spec)
    assert store.locate(spec) == store.fetch(spec) == folder
    assert connections == []


def test_model_on_the_hub_is_ready_to_download(server: HubServer) -> None:
    """A model that is not on disk passes where the hub has it and there is room for it."""
    assert store.locate(SMALL) is None
    check(SMALL)
    assert store.locate(SMALL) is None


def test_fetched_model_is_found_without_a_network(
    server: HubServer, connections: list[object]
) -> None:
    """A downloaded model passes from then on without asking the hub."""
    folder = store.fetch(SMALL)
    connections.clear()
    check(SMALL)
    assert store.locate(SMALL) == store.fetch(SMALL) == folder
    assert connections == []


def test_large_model_is_too_slow_on_a_cpu(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a billion parameters on a CPU are refused, with the setting that allows them."""
    use_device(monkeypatch, "cpu")
    with pytest.raises(ModelUnavailable, match=r"too slow on a CPU with its 7\.6 billion") as error:
        check(LARGE)
    assert "not downloaded" in error.value.message
    assert error.value.fix == "allow_cpu: true in the config"
    assert server.requests == []


def test_large_model_on_disk_is_too_slow_on_a_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on disk counts by what its files say, and not by the table."""
    use_device(monkeypatch, "cpu")
    monkeypatch.setattr(store, "CPU_PARAMETERS", inspect_folder(folder).parameters - 1)
    with pytest.raises(ModelUnavailable, match=r"^too slow on a CPU"):
        check(ModelSpec("mlx/tiny", path=folder, parameters=1))


def test_allow_cpu(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user may allow large models on a CPU; elsewhere they need no leave."""
    use_device(monkeypatch, "cpu")
    check(LARGE, allow_cpu=True)
    use_device(monkeypatch, "metal")
    check(LARGE)


def test_model_on_disk_that_does_not_fit(folder: Path) -> None:
    """A model with its cache beyond the limit is refused, with the setting that moves it."""
    spec = ModelSpec("mlx/tiny", path=folder)
    size = inspect_folder(folder).size
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory") as error:
        check(spec, memory_limit=size)
    assert error.value.fix == "a larger memory_limit in the config, or a smaller model"
    check(spec, memory_limit=100 * size)


def test_model_that_can_not_be_used(folder: Path) -> None:
    """Where a model is asked by itself, the error names it, both numbers and what to do."""
    spec = ModelSpec("mlx/tiny", path=folder)
    needed, limit = inspect_folder(folder).memory, 5 * 10**7
    assert needed < limit
    assert store.ready(spec, memory_limit=limit) == folder
    with pytest.raises(ModelUnavailable) as error:
        store.ready(spec, memory_limit=1)
    assert str(error.value) == (
        f"mlx/tiny: needs {needed / 1e9:.1f} GB of memory, and models may use 0.0 GB "
        "(a larger memory_limit in the config, or a smaller model)"
    )


def test_errors_keep_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that can't be had is named, and the error says what it was before."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"^mlx/small: not downloaded, and .*llm tiered downl"):
        store.ready(SMALL, memory_limit=None)


def test_model_that_does_not_fit_the_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit of the user's, the machine's own counts."""
    small_machine = Device("metal", "a machine", memory=20_000, budget=10_000)
    monkeypatch.setattr(device, "detect", lambda: small_machine)
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory"):
        check(ModelSpec("mlx/tiny", path=folder))


def test_model_on_the_hub_that_does_not_fit(server: HubServer) -> None:
    """A model that would not fit is refused before it is downloaded."""
    server.repos[REPO] = model_files(1_000_000)
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory"):
        check(SMALL, memory_limit=1_000_000)
    assert server.sent(WEIGHTS) == 0


def test_half_downloaded_model_that_does_not_fit(server: HubServer) -> None:
    """Of a broken download all counts, not only what is still to come."""
    chunk = constants.DOWNLOAD_CHUNK_SIZE
    server.repos[REPO] = model_files(chunk)
    server.cut_after = {WEIGHTS: chunk * 3 // 2}
    with pytest.raises(DownloadError):
        store.fetch(SMALL)
    server.refused.clear()
    with pytest.raises(ModelUnavailable, match=r"^needs .* of memory"):
        check(SMALL, memory_limit=chunk * 3 // 2)


@pytest.mark.parametrize("spec", [SMALL, catalog.EMBEDDED], ids=["hub", "embedded"])
def test_offline(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a model that is not on disk is refused, with the command that brings it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError) as error:
        check(spec)
    assert error.value.message == "not downloaded, and HF_HUB_OFFLINE forbids it"
    assert f"llm tiered download {spec.model_id}" in str(error.value.fix)


def test_offline_with_the_files_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, what is on disk works."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(ModelSpec("mlx/tiny", path=folder))


def test_hub_without_the_model(server: HubServer) -> None:
    """A repository that the hub does not have is refused with its name."""
    with pytest.raises(DownloadError, match=r"^not downloaded, and .* nobody/nothing"):
        check(ModelSpec("mlx/nothing", repo="nobody/nothing"))


def test_hub_that_fails(server: HubServer) -> None:
    """A hub in trouble is said to be so, and nothing is downloaded."""
    server.status = 503
    with pytest.raises(DownloadError, match=r"^not downloaded, and .* 503"):
        check(SMALL)


def test_embedded_model_counts_with_its_size() -> None:
    """The embedded model is weighed before it is fetched."""
    check(catalog.EMBEDDED, memory_limit=catalog.EMBEDDED.size)
    with pytest.raises(ModelUnavailable, match=r"^needs 0\.1 GB of memory"):
        check(catalog.EMBEDDED, memory_limit=1_000_000)


def test_folder_that_is_gone(tmp_path: Path) -> None:
    """A folder that is not there is refused by its name."""
    with pytest.raises(ModelUnavailable, match="nothing") as error:
        check(ModelSpec("mlx/tiny", path=tmp_path / "nothing"))
    assert error.value.fix == "check the path"


def test_damaged_folder(folder: Path) -> None:
    """A folder whose weights are cut off is refused, and its files are the user's to mend."""
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(DamagedModel) as error:
        check(ModelSpec("mlx/tiny", path=folder))
    assert error.value.fix == "copy the file again"


def test_damaged_download(server: HubServer) -> None:
    """A damaged download is refused with the command that mends it, which it does."""
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
    """A model beyond the config's memory_limit is refused, and answers once that is raised."""
    models = [{"id": "store", "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "memory_limit": "500kB"}))
    with pytest.raises(ModelUnavailable, match=r"^mlx/store: needs .* of memory"):
        llm.get_model("mlx/store").prompt("Hello", max_tokens=3).text()
    config_file.write_text(json.dumps({"models": models, "memory_limit": "500MB"}))
    assert llm.get_model("mlx/store").prompt("Hello", max_tokens=3).text()
