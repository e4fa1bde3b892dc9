"""Servers that report on themselves as vLLM, llama.cpp and Ollama do, on loopback."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

from llm_tiered.endpoints.endpoint import Endpoint
from tests.loopback import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

# Path → status and body; other paths are 404.
Pages = dict[str, tuple[int, Any]]

COMPLETION = {"choices": [{"message": {"role": "assistant", "content": "I"}}]}

VLLM: Pages = {
    "/health": (200, ""),
    "/v1/models": (200, {"data": [{"id": "qwen", "max_model_len": 32768}]}),
    "/metrics": (
        200,
        '# HELP vllm:num_requests_running x\nvllm:num_requests_running{engine="0"} 2.0\n'
        'vllm:num_requests_running{engine="1"} 1.0\nvllm:num_requests_waiting{engine="0"} 4.0\n',
    ),
    "/v1/chat/completions": (200, COMPLETION),
}
LLAMA_CPP: Pages = {
    "/health": (200, {"status": "ok"}),
    "/v1/models": (200, {"data": [{"id": "smol", "meta": {"n_ctx": 4096}}]}),
    "/metrics": (200, "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n"),
    "/v1/chat/completions": (200, COMPLETION),
}
OLLAMA: Pages = {
    "/v1/models": (200, {"data": [{"id": "llama3.2:latest"}]}),
    "/api/ps": (200, {"models": [{"name": "llama3.2:latest"}]}),
    "/v1/chat/completions": (200, COMPLETION),
}


@contextmanager
def server(pages: Pages) -> Iterator[Endpoint]:
    """A server with these pages; a page with status 0 never arrives."""
    end = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        asked: ClassVar[list[str]] = []

        def do_GET(self) -> None:
            self.asked.append(self.path)
            status, body = pages.get(self.path, (404, {"error": "no such page"}))
            if status == 0:
                end.wait(10)
                self.close_connection = True
                return
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, end) as port:
        yield Endpoint(f"http://127.0.0.1:{port}", here=True)
