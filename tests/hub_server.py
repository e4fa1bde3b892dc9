"""A Hugging Face hub on loopback: the part of its API that a download needs, with a log."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import struct
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from math import prod
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.loopback import serving

if TYPE_CHECKING:
    from types import TracebackType

REPO = "tiny/model"
# Bytes per write of a client: far less than the library's 10 MB, so that files can be small.
CHUNK = 100_000
CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "max_position_embeddings": 512,
}
WIDTHS = {"U8": 1, "U32": 4, "F16": 2, "BF16": 2, "F32": 4}


def safetensors(tensors: dict[str, tuple[str, list[int]]]) -> bytes:
    """Write a safetensors file with random content: name → dtype and shape."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + WIDTHS[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + random.Random(0).randbytes(end)


def model_files(weights: int = 1_000) -> dict[str, bytes]:
    """Return the files of a model with `weights` weights of 16 bits."""
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "model.safetensors": safetensors({"model.embed_tokens.weight": ("F16", [weights])}),
        "modeling.py": b"raise SystemExit('never run')",
        "README.md": b"# A tiny model",
    }


@dataclass
class Request:
    """A request that the server got; `sent` counts bytes of the response's body."""

    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


@dataclass
class HubServer:
    """Serve `repos`; a context manager.

    Large files (`*.safetensors`) are redirected to another host name, like the hub's CDN.
    `status` answers every API request with this error, `page` with an HTML page. `bare` leaves
    out sizes and hashes, as some mirrors do; `commit` replaces a model's real commit.
    `cut_after` breaks the connection after this number of bytes of a file and refuses the file
    from then on; `stall_after` stops sending instead, once, and sets `stalled`.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    status: int | None = None
    page: bool = False
    bare: bool = False
    commit: str | None = None
    cut_after: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    stall_after: dict[str, int] = field(default_factory=dict)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._serving = ExitStack()
        self._port = self._serving.enter_context(serving(Handler, self.closing))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._serving.close()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._port

    @property
    def url(self) -> str:
        """The value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def sent(self, name: str) -> int:
        """Return how many bytes of a file were sent in all requests."""
        return sum(request.sent for request in self.requests if request.path.endswith(f"/{name}"))

    @property
    def questions(self) -> list[str]:
        """The paths of the requests that ask about a model rather than for a file of it."""
        paths = [request.path for request in self.requests]
        return [path for path in paths if path.startswith("/api/")]

    def forget(self) -> None:
        """Empty the log."""
        self.requests.clear()


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the log is in `requests`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.request_log = Request(self.command, path, {})
        self.request_log.headers.update((k.lower(), v) for k, v in self.headers.items())
        self.server_hub.requests.append(self.request_log)
        if path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        elif "/resolve/" in path:
            self._file(path.lstrip("/"))
        else:
            self._answer(404, b"")

    def _api(self, path: str) -> None:
        repo = "/".join(path.split("/")[:2])
        files = self.server_hub.repos.get(repo)
        if self.server_hub.page:
            self._answer(200, b"<html>Log in to the guests' network</html>")
        elif self.server_hub.status:
            self._answer(self.server_hub.status, b"")
        elif files is None:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in path:
            self._answer_json([_tree_entry(name, data) for name, data in files.items()])
        else:
            siblings = [
                {"rfilename": name} if self.server_hub.bare else _sibling(name, data)
                for name, data in files.items()
            ]
            commit = self.server_hub.commit or _commit(files)
            self._answer_json({"id": repo, "sha": commit, "siblings": siblings})

    def _file(self, path: str) -> None:
        on_cdn = path.startswith("cdn/")
        owner, model, _, _, name = path.removeprefix("cdn/").split("/", 4)
        files = self.server_hub.repos[f"{owner}/{model}"]
        data = files.get(name)
        if data is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif name in self.server_hub.refused:
            self._answer(503, b"")
        elif _is_large(name) and not on_cdn:
            headers = {
                "Location": f"http://localhost:{self.server_hub.port}/cdn/{path}",
                "X-Repo-Commit": _commit(files),
                "X-Linked-Etag": f'"{_sha256(data)}"',
                "X-Linked-Size": str(len(data)),
            }
            self._answer(302, b"", headers)
        else:
            etag = _sha256(data) if _is_large(name) else _git_id(data)
            self._send_data(name, data, {"ETag": f'"{etag}"', "X-Repo-Commit": _commit(files)})

    def _send_data(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._answer(206 if start else 200, data[start:], headers, name)

    def _answer_json(self, value: Any) -> None:
        headers = {
            "Content-Type": "application/json",
            "X-HF-Warning": f"{self.server_hub.port}; You are sending unauthenticated requests",
        }
        self._answer(200, json.dumps(value).encode(), headers)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, name: str = ""
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        hub = self.server_hub
        cut = hub.cut_after.pop(name, None)
        stall = hub.stall_after.pop(name, None)
        body = body[: cut if cut is not None else stall]
        # Counted before sending, because a client may look at the log as soon as it has the body.
        self.request_log.sent = len(body)
        try:
            self.wfile.write(body)
        except ConnectionError:
            return
        if cut is not None:
            hub.refused.add(name)
        if stall is not None:
            hub.stalled.set()
            hub.closing.wait()


def _is_large(name: str) -> bool:
    return name.endswith(".safetensors")


@functools.lru_cache(maxsize=64)
def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _commit(files: dict[str, bytes]) -> str:
    return hashlib.sha1("".join(_sha256(data) for data in files.values()).encode()).hexdigest()


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _git_id(data)}
    if _is_large(name):
        sibling["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 134}
    return sibling


def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": name,
        "size": len(data),
        "oid": _git_id(data),
    }
    if _is_large(name):
        entry["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
    return entry
