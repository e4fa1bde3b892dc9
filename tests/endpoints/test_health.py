from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.endpoints import health
from llm_tiered.endpoints.health import ServedModel, ServerQueue
from tests.endpoints.pages import LLAMA_CPP, OLLAMA, VLLM, server

if TYPE_CHECKING:
    from tests.endpoints.pages import Pages


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REPORT_WITHIN", 10.0)


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
    monkeypatch.setattr(health, "REPORT_WITHIN", 0.1)
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
