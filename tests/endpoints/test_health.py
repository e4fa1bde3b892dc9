from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from llm_tiered.endpoints import health, looking
from llm_tiered.endpoints.endpoint import Endpoint
from llm_tiered.endpoints.health import ServedModel, ServerQueue
from llm_tiered.endpoints.outages import OUTAGES, Outage, now
from tests.loopback import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

# Path → status and body; of a path that is missing, there is no page.
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
    """A server with these pages; one whose status is 0 never comes."""
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


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TOLD_WITHIN", 10.0)
    monkeypatch.setattr(health, "TOKEN_WITHIN", 0.1)


@pytest.mark.parametrize(
    ("pages", "problem"),
    [
        (VLLM, None),
        (LLAMA_CPP, None),
        (OLLAMA, None),
        ({"/v1/models": (401, {"error": {"message": "no key"}})}, None),
        (
            {"/health": (503, {"error": {"message": "Loading model"}})},
            "not ready: HTTP 503: Loading model",
        ),
        ({"/health": (503, "busy")}, "not ready: HTTP 503"),
        ({"/health": (404, ""), "/v1/models": (502, "<html>")}, "HTTP 502"),
    ],
)
def test_health(pages: Pages, problem: str | None) -> None:
    """A server is healthy if it says so or, without such a page, has a list of models."""
    with server(pages) as endpoint:
        assert health.health(endpoint, None).problem == problem


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes a question and says nothing is given up."""
    monkeypatch.setattr(health, "TOLD_WITHIN", 0.1)
    with server({"/health": (0, "")}) as endpoint:
        assert health.health(endpoint, None).problem == "gave no answer in time"


def test_nothing_listens() -> None:
    """Where nothing listens, that is the reason."""
    with server({}) as endpoint:
        pass
    assert health.health(endpoint, None).problem == "connection refused"
    assert health.models(endpoint, None) is None
    assert health.queue(endpoint, None) is None


@pytest.mark.parametrize(
    ("pages", "models", "queue"),
    [
        (VLLM, [ServedModel("qwen", 32768)], ServerQueue(3, 4)),
        (LLAMA_CPP, [ServedModel("smol", 4096)], ServerQueue(1, 0)),
        (OLLAMA, [ServedModel("llama3.2:latest", None)], None),
        ({"/v1/models": (200, "<html>"), "/metrics": (200, "up 1\n")}, None, None),
        ({"/v1/models": (200, {"data": [{}]}), "/metrics": (501, "")}, None, None),
    ],
)
def test_models_and_queue(
    pages: Pages, models: list[ServedModel] | None, queue: ServerQueue | None
) -> None:
    """What servers tell of their models and requests is read; what they don't is unknown."""
    with server(pages) as endpoint:
        assert health.models(endpoint, None) == models
        assert health.queue(endpoint, None) == queue


def test_server_that_hangs() -> None:
    """A server that is healthy but never answers is told apart, if a token is asked for."""
    with server(VLLM | {"/v1/chat/completions": (0, "")}) as endpoint:
        [hung] = looking.look([endpoint], None, "qwen", token=True)
        [healthy] = looking.look([endpoint], None, "qwen", token=False)
    assert hung.problem == "is healthy, but wrote no token: gave no answer in time"
    assert healthy.problem is None
    assert (healthy.token_ms, healthy.queue) == (None, ServerQueue(3, 4))


def test_ollama_loads_nothing_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that Ollama has not in memory is not asked."""
    monkeypatch.setattr(health, "TOKEN_WITHIN", 10.0)
    not_loaded = OLLAMA | {"/api/ps": (200, {"models": []}), "/v1/chat/completions": (0, "")}
    with server(OLLAMA) as loaded, server(not_loaded) as endpoint:
        first, second = looking.look([loaded, endpoint], None, "llama3.2", token=True)
    assert first.token_ms is not None
    assert (second.problem, second.token_ms) == (None, None)


def test_outage_is_told(user_path: object) -> None:
    """Why prompts are not sent to a server is told as long as it lasts."""
    with server(VLLM) as endpoint:
        for until, told in ((now() + 50, True), (now() - 1, False)):
            outage = Outage("connection refused", until)
            OUTAGES.note(endpoint.address, outage)
            [state] = looking.look([endpoint], None, "qwen", token=False)
            assert state.outage == (outage if told else None)
