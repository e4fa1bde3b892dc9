"""Models of the hub: downloaded once, resumed after an interruption, found without a network."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest

from llm_tiered.errors import DownloadError
from llm_tiered.mlx.weights import hub
from llm_tiered.mlx.weights.inspect import INDEX, inspect_folder
from tests.hub_server import CHUNK, REPO, model_files, safetensors

if TYPE_CHECKING:
    from tests.hub_server import HubServer

pytest_plugins = ("tests.mlx.weights.local_hub",)

ROOT = Path(__file__).parents[3]
WEIGHTS = "model.safetensors"
SHARDS = ["model-1.safetensors", "model-2.safetensors"]


def blob(name: str = WEIGHTS) -> Path:
    """Return the file in which the cache keeps a file's content."""
    folder = hub.find(REPO)
    assert folder
    return (folder / name).resolve()


def partial(tmp_path: Path) -> Path:
    """Return the partially downloaded file."""
    [file] = tmp_path.rglob("*.incomplete")
    return file


def run_download(**options: Any) -> subprocess.Popen[bytes]:
    """Download in another process, which Ctrl-C interrupts even if the tests ignore it."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}\n"
        f"from llm_tiered.mlx.weights import hub; hub.download({REPO!r}, **{options!r})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_downloads_the_files_of_a_model(server: HubServer) -> None:
    """A download fetches config, tokenizer and weights, and find() then returns their folder."""
    assert hub.find(REPO) is None
    folder = hub.download(REPO)
    assert hub.find(REPO) == folder
    assert (folder / WEIGHTS).read_bytes() == server.repos[REPO][WEIGHTS]
    assert inspect_folder(folder).parameters == 1_000


def test_skips_code_and_readme(server: HubServer) -> None:
    """Python files and readmes are not fetched."""
    folder = hub.download(REPO)
    names = {file.name for file in folder.iterdir()}
    assert names == {"config.json", "tokenizer.json", WEIGHTS}


def test_fetches_nothing_twice(server: HubServer) -> None:
    """A second download asks the hub for its listing and fetches nothing."""
    folder = hub.download(REPO)
    server.forget()
    assert hub.download(REPO) == folder
    assert server.requests
    assert all(request.path.startswith("/api/") for request in server.requests)


def test_concurrent_downloads_share_the_work(server: HubServer) -> None:
    """Two simultaneous downloads of a model fetch its weights once."""
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(hub.download, [REPO, REPO]))
    assert folders[0] == folders[1]
    assert server.sent(WEIGHTS) == len(server.repos[REPO][WEIGHTS])


def test_resumes_after_a_broken_connection(server: HubServer, tmp_path: Path) -> None:
    """After a broken connection only the missing bytes are fetched."""
    server.repos[REPO] = model_files(120_000)
    size = len(server.repos[REPO][WEIGHTS])
    server.cut_after[WEIGHTS] = CHUNK + 1_000
    with pytest.raises(DownloadError, match="continues where it stopped"):
        hub.download(REPO)
    assert hub.find(REPO) is None
    assert partial(tmp_path).stat().st_size == CHUNK

    server.refused.clear()
    server.forget()
    folder = hub.download(REPO)
    assert server.sent(WEIGHTS) == size - CHUNK
    assert (folder / WEIGHTS).read_bytes() == server.repos[REPO][WEIGHTS]
    assert not list(tmp_path.rglob("*.incomplete"))


def test_ctrl_c_stops_immediately(server: HubServer, tmp_path: Path) -> None:
    """Ctrl-C ends a download in the middle of a file, and the next one resumes there."""
    # Far more than the sockets' buffers hold, so that some of it has been read.
    server.repos[REPO] = model_files(10_000_000)
    size = len(server.repos[REPO][WEIGHTS])
    server.stall_after[WEIGHTS] = size - 1_000
    with run_download() as process:
        try:
            assert server.stalled.wait(60)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == -signal.SIGINT
        finally:
            process.kill()

    done = partial(tmp_path).stat().st_size
    assert done >= CHUNK
    server.forget()
    hub.download(REPO)
    assert server.sent(WEIGHTS) == size - done


def test_damaged_partial_file(server: HubServer, tmp_path: Path) -> None:
    """A partial file with wrong bytes is an error once; the next download starts from scratch."""
    data = server.repos[REPO][WEIGHTS]
    hub.download(REPO)
    whole = blob()
    whole.rename(whole.with_name(f"{whole.name}.incomplete"))
    partial(tmp_path).write_bytes(bytes(len(data) // 2))
    with pytest.raises(DownloadError, match="arrived damaged from"):
        hub.download(REPO)
    assert (hub.download(REPO) / WEIGHTS).read_bytes() == data


def test_partial_file_that_is_too_long(server: HubServer, tmp_path: Path) -> None:
    """A partial file that is longer than the complete file is discarded."""
    data = server.repos[REPO][WEIGHTS]
    hub.download(REPO)
    whole = blob()
    whole.rename(whole.with_name(f"{whole.name}.incomplete"))
    partial(tmp_path).write_bytes(bytes(len(data) + 1))
    assert (hub.download(REPO) / WEIGHTS).read_bytes() == data


@pytest.mark.parametrize("damage", [b"", b"\0"], ids=["cut short", "zeroed"])
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_repairs_a_damaged_file(server: HubServer, name: str, damage: bytes) -> None:
    """A damaged file in the cache is fetched again, and only that file."""
    data = server.repos[REPO][name]
    hub.download(REPO)
    server.forget()
    blob(name).write_bytes(damage * len(data) or data[:50])
    assert (hub.download(REPO) / name).read_bytes() == data
    names = {request.path.rsplit("/", 1)[-1] for request in server.requests if request.sent}
    assert name in names
    assert not {WEIGHTS, "config.json", "tokenizer.json"} & names - {name}


@pytest.fixture
def _two_shards(server: HubServer) -> None:
    """A model on the hub with two weights files."""
    repo = server.repos[REPO]
    del repo[WEIGHTS]
    repo[INDEX] = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
    repo |= {name: safetensors({f"{name}.weight": ("F16", [10])}) for name in SHARDS}


@pytest.mark.usefixtures("_two_shards")
@pytest.mark.parametrize("missing", [SHARDS[:1], SHARDS, [*SHARDS, INDEX]], ids=len)
def test_finds_no_incomplete_model(missing: list[str]) -> None:
    """A model that lacks weights files is not found."""
    folder = hub.download(REPO)
    assert hub.find(REPO) == folder
    for name in missing:
        (folder / name).unlink()
    assert hub.find(REPO) is None


@pytest.mark.usefixtures("_two_shards")
@pytest.mark.parametrize("name", [SHARDS[1], "tokenizer.json"])
def test_finds_no_incomplete_model_of_another_program(
    server: HubServer, tmp_path: Path, name: str
) -> None:
    """An incomplete model that another program has downloaded is not found either."""
    cache = tmp_path / "hf" / "hub"
    folder = Path(huggingface_hub.snapshot_download(REPO, cache_dir=cache, endpoint=server.url))
    assert hub.find(REPO) == folder
    (folder / name).unlink()
    assert hub.find(REPO) is None


@pytest.mark.parametrize("repo", ["no/such-model", "not/a/name", "..", "", "a b"])
def test_finds_nothing_under_a_strange_name(server: HubServer, repo: str) -> None:
    """A name that is not in the cache, or is not a valid name, is simply not found."""
    assert hub.find(repo) is None


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"\xff" * 40])
def test_finds_nothing_in_a_damaged_cache(server: HubServer, damage: bytes) -> None:
    """If a power cut has left nonsense in the cache, the model is simply not found."""
    (hub.download(REPO).parents[1] / "refs" / "main").write_bytes(damage)
    assert hub.find(REPO) is None


def test_size_of_a_model(server: HubServer) -> None:
    """The size includes every file of the model, whether it is in the cache or not."""
    names = ("config.json", "tokenizer.json", WEIGHTS)
    size = sum(len(server.repos[REPO][name]) for name in names)
    assert hub.model_bytes(REPO) == size
    hub.download(REPO)
    assert hub.model_bytes(REPO) == size


def test_one_question_to_the_hub(server: HubServer) -> None:
    """Asking for the size and then downloading sends the hub a single question."""
    hub.model_bytes(REPO)
    hub.model_bytes(REPO)
    hub.download(REPO)
    assert server.questions == [f"/api/models/{REPO}"]


def test_files_of_one_commit(server: HubServer) -> None:
    """Every file is requested from the commit of the listing, even if the branch moves on."""
    folder = hub.download(REPO)
    paths = [request.path for request in server.requests if "/resolve/" in request.path]
    assert paths
    assert all(f"/resolve/{folder.name}/" in path for path in paths)


def test_every_download_asks_again(server: HubServer) -> None:
    """A download does not reuse the listing of an earlier one: the model may have changed."""
    first = hub.download(REPO)
    server.repos[REPO] |= {"config.json": server.repos[REPO]["config.json"] + b" "}
    second = hub.download(REPO)
    assert first != second
    assert hub.find(REPO) == second
    assert (second / "config.json").read_bytes() == server.repos[REPO]["config.json"]


def test_old_listings_expire(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing is reused for a minute."""
    hub.model_bytes(REPO)
    server.repos[REPO] = model_files(2_000)
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    names = ("config.json", "tokenizer.json", WEIGHTS)
    assert hub.model_bytes(REPO) == sum(len(server.repos[REPO][name]) for name in names)


def test_interrupted_update_keeps_the_old_version(server: HubServer) -> None:
    """Until a newer version of a model is complete, the older one is found."""
    first = hub.download(REPO)
    server.repos[REPO] = model_files(120_000)
    server.cut_after[WEIGHTS] = 1_000
    with pytest.raises(DownloadError):
        hub.download(REPO)
    assert hub.find(REPO) == first


def test_mirror_without_sizes(server: HubServer) -> None:
    """If the hub lists only names, the library downloads every file."""
    server.bare = True
    folder = hub.download(REPO)
    assert hub.find(REPO) == folder


def test_too_little_disk_space(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the files nothing is fetched, and the error gives both sizes."""
    server.repos[REPO] = model_files(1_000_000)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(DownloadError, match=r"needs 2 MB on disk, but .* has only 1 MB free"):
        hub.download(REPO)
    assert not server.sent(WEIGHTS)


def test_needs_room_only_for_what_is_missing(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk does not matter if the files are already there."""
    folder = hub.download(REPO)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert hub.download(REPO) == folder


def test_partial_file_needs_less_room(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a partial file need no more room."""
    server.repos[REPO] = model_files(120_000)
    server.cut_after[WEIGHTS] = CHUNK + 1_000
    with pytest.raises(DownloadError):
        hub.download(REPO)
    server.refused.clear()
    missing = len(server.repos[REPO][WEIGHTS]) - CHUNK
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=missing))
    with pytest.raises(DownloadError, match="needs 0 MB on disk"):
        hub.download(REPO)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=missing + CHUNK // 2))
    hub.download(REPO)


def test_resumes_after_a_failed_write(server: HubServer, tmp_path: Path) -> None:
    """A write error gives the system's reason, and the next download resumes there."""
    server.repos[REPO] = model_files(120_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK + 1_000, hard))
    try:
        with pytest.raises(DownloadError, match=r"can't be written to .*File too large"):
            hub.download(REPO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    done = partial(tmp_path).stat().st_size
    assert done >= CHUNK
    server.forget()
    hub.download(REPO)
    assert server.sent(WEIGHTS) == len(server.repos[REPO][WEIGHTS]) - done


def test_downloaded_model_needs_no_hub(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model in the cache is enough when the hub fails or the network is forbidden."""
    folder = hub.download(REPO)
    server.status = 503
    assert hub.download(REPO) == folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.download(REPO) == folder
    assert hub.find(REPO) == folder


def test_shows_progress_on_stderr(server: HubServer) -> None:
    """The progress goes to stderr; stdout stays free for the answer."""
    with run_download(show_progress=True) as process:
        out, err = process.communicate(timeout=60)
    assert out == b""
    assert b"model.safetensors: 100%" in err


def test_talks_to_the_hub_alone(server: HubServer, connections: list[Any]) -> None:
    """The only connections are those to the hub in HF_ENDPOINT."""
    hub.model_bytes(REPO)
    hub.download(REPO)
    assert connections
    assert {address[1] for address in connections} == {server.port}


def test_new_process(server: HubServer) -> None:
    """Without a terminal a new process prints nothing, and requests only the model's files."""
    with run_download() as process:
        assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0
    assert server.requests
    assert all(REPO in request.path for request in server.requests)


def test_keeps_the_token_with_the_hub(server: HubServer, token: str) -> None:
    """The token goes to the hub, but not to the host that the hub redirects to."""
    hub.download(REPO)
    senders = {
        request.path.startswith("/cdn/")
        for request in server.requests
        if token in request.headers.get("authorization", "")
    }
    assert senders == {False}
    assert any(request.path.startswith("/cdn/") for request in server.requests)
