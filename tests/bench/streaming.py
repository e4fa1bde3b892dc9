"""A server that streams the same words to everybody, in place of the two that are compared."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

from llm_tiered.bench.servers import Served
from tests.loopback import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Streaming(BaseHTTPRequestHandler):
    """Answers each prompt with the words, and keeps what it was asked."""

    words: ClassVar[tuple[str, ...]] = ("Once", " upon")
    ending: ClassVar[bytes] = b"data: [DONE]\n\n"
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        """Answer."""
        size = int(self.headers["content-length"])
        self.asked.append(json.loads(self.rfile.read(size)))
        self.send_response(200)
        self.end_headers()
        self._put({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for word in self.words:
            self._put({"choices": [{"delta": {"content": word}}]})
        self._put({"choices": [], "usage": {"completion_tokens": len(self.words)}})
        self.wfile.write(self.ending)

    def _put(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def streaming(model: str, **changes: Any) -> Iterator[Served]:
    """A running server that names its model so; changes are attributes of its handler."""
    handler = type("Handler", (Streaming,), changes)
    with serving(handler, threading.Event()) as port:
        yield Served(("127.0.0.1", port), model)


def replace_servers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Compare two of these servers; what they are asked is added to the list."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "llm_tiered.bench.serve.tiered_serve", lambda model_id: streaming(model_id, asked=asked)
    )
    monkeypatch.setattr(
        "llm_tiered.bench.serve.mlx_lm_server", lambda *_: streaming("default_model", asked=asked)
    )
    return asked
