"""What a server reports: whether it is healthy, its models, how many requests it has.

Each request takes at most a second or so and costs no tokens; only `answers` asks the model.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import llm

from ..redaction import redact
from . import clients
from .faults import fault_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .endpoint import Endpoint
    from .outages import Proof

# Seconds for a connection, for a report, and for a token of the model.
CONNECT_WITHIN, REPORT_WITHIN, TOKEN_WITHIN = 0.5, 1.0, 5.0

# The metrics that count requests, of vLLM, SGLang, llama.cpp and `llm tiered serve`.
_RUNNING = (
    *("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing"),
    "llm_tiered_running",
)
_WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred")

_METRIC = re.compile(r"^([\w:]+)(?:\{[^}]*\})?\s+([\d.eE+-]+)", re.MULTILINE)


# key: it wants another key. loading: it says that it can't answer yet. slow: it takes requests, but
# did not answer in time. error: it answers with an error.
Trouble: TypeAlias = Literal["key", "loading", "slow", "error"]

_REFUSED, _NOT_READY = (401, 403), 503


@dataclass(frozen=True)
class Health:
    """The problem of a server, or None if it is healthy, and how long the check took in ms.

    `trouble` is the kind of the problem of a server that can be reached.
    """

    problem: str | None
    ms: float
    trouble: Trouble | None = None


@dataclass(frozen=True)
class ServedModel:
    """A model by the server's name for it; `context` is its length in tokens, if known."""

    id: str
    context: int | None


@dataclass(frozen=True)
class ServerQueue:
    """The number of requests of all the server's clients; None is unknown."""

    running: int | None
    waiting: int | None


def health(endpoint: Endpoint, key: str | None) -> Health:
    """Return whether a server reports that it can answer. Raises nothing."""
    return _health(partial(_unhealthy, endpoint, key), key)


def models(endpoint: Endpoint, key: str | None) -> list[ServedModel] | None:
    """Return the models that a server has, or None if it does not report them."""
    try:
        listed = _get(endpoint, f"{endpoint.base_url}/models", key).json()["data"]
        return [ServedModel(str(each["id"]), _context(each)) for each in listed]
    except Exception:
        return None


def queue(endpoint: Endpoint, key: str | None) -> ServerQueue | None:
    """Return how many requests a server has, or None if it does not report that."""
    try:
        response = _get(endpoint, f"{_root(endpoint)}/metrics", key)
    except Exception:
        return None
    if response.status_code != 200:
        return None
    counts: dict[str, float] = {}
    for name, value in _METRIC.findall(response.text):
        # Several engines in one server have a count each, with labels.
        counts[name] = counts.get(name, 0.0) + float(value)
    running, waiting = (_first(counts, names) for names in (_RUNNING, _WAITING))
    return ServerQueue(running, waiting) if running is not None else None


def has_loaded(endpoint: Endpoint, key: str | None, model: str) -> bool:
    """Return whether the model is in memory, as it is if the server is not Ollama."""
    try:
        loaded = _get(endpoint, f"{_root(endpoint)}/api/ps", key).json()["models"]
        names = {str(each["name"]) for each in loaded}
    except Exception:
        return True
    return bool(names & {model, f"{model}:latest"})


def answers(endpoint: Endpoint, key: str | None, model: str) -> Health:
    """Return whether the model writes a token in time. Raises nothing."""
    return _health(partial(_no_token, endpoint, key, model), key)


def is_back(endpoint: Endpoint, proof: Proof, *, key_name: str | None, model: str) -> str | None:
    """Return why a server that was left alone is not back yet, or None if it is."""
    key = llm.get_key(key_alias=key_name) if key_name else None
    check = answers(endpoint, key, model) if proof == "answer" else health(endpoint, key)
    return check.problem


def _health(find_refusal: Callable[[], Any], key: str | None) -> Health:
    """Time the search for a problem, and take the key out of what the server says."""
    began = time.perf_counter()
    problem: str | None = None
    trouble: Trouble | None = None
    try:
        if (refusal := find_refusal()) is not None:
            problem, trouble = _message(refusal), _trouble(refusal)
    except Exception as error:
        fault = fault_of(error)
        problem = fault.reason if fault else str(error) or type(error).__name__
        trouble = "slow" if fault and fault.kind == "silent" else None
    ms = (time.perf_counter() - began) * 1000
    return Health(problem and redact(problem, [key]), ms, trouble)


def _trouble(refusal: Any) -> Trouble | None:
    if refusal.is_redirect:
        return None
    if refusal.status_code in _REFUSED:
        return "key"
    return "loading" if refusal.status_code == _NOT_READY else "error"


def _no_token(endpoint: Endpoint, key: str | None, model: str) -> Any:
    """The response without a token, or None if one comes."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    url = f"{endpoint.base_url}/chat/completions"
    response = _send(endpoint, key, TOKEN_WITHIN, "POST", url, json=body)
    return None if response.is_success else response


def _unhealthy(endpoint: Endpoint, key: str | None) -> Any:
    """The response of a server that can't answer prompts now, or None if it can."""
    response = _get(endpoint, f"{_root(endpoint)}/health", key)
    if response.is_success:
        return None
    if response.status_code == _NOT_READY:
        return response
    # Ollama and most services have no /health, but all list their models.
    listed = _get(endpoint, f"{endpoint.base_url}/models", key)
    return listed if listed.status_code >= 500 or listed.is_redirect else None


def _context(model: dict[str, Any]) -> int | None:
    """The length of the context, as vLLM and SGLang or as llama.cpp report it."""
    meta = model.get("meta")
    length = model.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return length if isinstance(length, int) else None


def _first(counts: dict[str, float], names: tuple[str, ...]) -> int | None:
    return next((int(counts[name]) for name in names if name in counts), None)


def _root(endpoint: Endpoint) -> str:
    return endpoint.base_url.removesuffix("/v1")


def _get(endpoint: Endpoint, url: str, key: str | None) -> Any:
    return _send(endpoint, key, REPORT_WITHIN, "GET", url)


def _send(
    endpoint: Endpoint, key: str | None, within: float, method: str, url: str, **content: Any
) -> Any:
    """The response to a request, without OpenAI's library, which takes long to import."""
    import httpx2

    clients.check_here(endpoint)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(within, connect=CONNECT_WITHIN)
    with httpx2.Client(**clients.http_settings(endpoint), timeout=timeout) as client:
        return client.request(method, url, headers=headers, **content)


def _message(response: Any) -> str:
    """The status, and the server's message if there is one."""
    try:
        error = response.json()["error"]
        message = error["message"] if isinstance(error, dict) else error
    except Exception:
        message = None
    status = f"HTTP {response.status_code}"
    if response.status_code == _NOT_READY:
        status = f"not ready: {status}"
    return f"{status}: {message}" if isinstance(message, str) and message else status
