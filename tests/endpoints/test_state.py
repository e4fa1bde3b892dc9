from __future__ import annotations

import pytest

from llm_tiered.endpoints import health
from llm_tiered.endpoints.health import ServerQueue
from llm_tiered.endpoints.outages import OUTAGES, Outage, now
from llm_tiered.endpoints.state import states_of
from tests.endpoints.pages import OLLAMA, VLLM, server


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REPORT_WITHIN", 10.0)
    monkeypatch.setattr(health, "TOKEN_WITHIN", 10.0)


def test_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is healthy but never answers is found out by asking for a token."""
    monkeypatch.setattr(health, "TOKEN_WITHIN", 0.1)
    with server(VLLM | {"/v1/chat/completions": (0, "")}) as endpoint:
        [hung] = states_of([endpoint], None, "qwen", token=True)
        [healthy] = states_of([endpoint], None, "qwen", token=False)
    assert hung.problem == (
        "is there, but has not written a token within 0.1 s (it may still be loading its model)"
    )
    assert hung.trouble == "slow"
    assert healthy.problem is None
    assert (healthy.token_ms, healthy.queue) == (None, ServerQueue(3, 4))


def test_ollama_does_not_load_a_model() -> None:
    """A model that Ollama does not have in memory is not asked for a token."""
    not_loaded = OLLAMA | {"/api/ps": (200, {"models": []}), "/v1/chat/completions": (0, "")}
    with server(OLLAMA) as loaded, server(not_loaded) as endpoint:
        first, second = states_of([loaded, endpoint], None, "llama3.2", token=True)
    assert first.token_ms is not None
    assert (second.problem, second.token_ms) == (None, None)


def test_what_stands_in_the_way() -> None:
    """A key that is refused, a model that is loading and another error are told apart."""
    answer, health_page = "/v1/chat/completions", "/health"
    for page, status, trouble, problem in (
        (answer, 401, "key", "refuses the key: HTTP 401: no"),
        (answer, 403, "key", "refuses the key: HTTP 403: no"),
        (answer, 500, "error", "is healthy, but wrote no token: HTTP 500: no"),
        (health_page, 503, "loading", "not ready: HTTP 503: no"),
    ):
        with server(VLLM | {page: (status, {"error": "no"})}) as endpoint:
            [state] = states_of([endpoint], "k", "qwen", token=True)
        assert (state.trouble, state.problem) == (trouble, problem)
    with server(VLLM | {answer: (401, {"error": "no"})}) as endpoint:
        [state] = states_of([endpoint], None, "qwen", token=True)
    assert state.problem == "needs a key: HTTP 401: no"
    [gone] = states_of([endpoint], None, "qwen", token=True)
    assert (gone.trouble, gone.problem) == (None, "connection refused")


@pytest.mark.usefixtures("user_path")
def test_outage() -> None:
    """An outage is part of the state for as long as it lasts."""
    with server(VLLM) as endpoint:
        for until, lasts in ((now() + 50, True), (now() - 1, False)):
            outage = Outage("connection refused", until)
            OUTAGES.note(endpoint.address, outage)
            [state] = states_of([endpoint], None, "qwen", token=False)
            assert state.outage == (outage if lasts else None)
