"""Errors as the libraries of several providers raise them, and models that need their keys."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import llm

from tests.gemini import MODEL as GEMINI


class APIStatusError(Exception):
    """The base of what the libraries of OpenAI and Anthropic raise for an error status."""

    def __init__(self, message: str, *, response: httpx.Response, body: object) -> None:
        super().__init__(message)
        self.message = message
        self.response = response
        self.status_code = response.status_code
        self.body = body


class APIConnectionError(Exception):
    """What they raise if there is no answer, with the error of the HTTP library as its cause."""

    def __init__(self, message: str = "Connection error.") -> None:
        super().__init__(message)
        self.message = message
        self.body = None


class APITimeoutError(APIConnectionError):
    """What they raise if there is none in time."""


def response(status: int, body: Any = b"", **headers: str) -> httpx.Response:
    """A response with that body, which is JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = httpx.Request("POST", "https://service.example/v1/chat?key=sk-secret-0123456789")
    return httpx.Response(status, content=content, headers=names, request=request)


def by_httpx(status: int, body: Any = b"", **headers: str) -> Exception:
    """The error of a plugin that uses httpx, and of llm-gemini as `tiered` runs it."""
    try:
        response(status, body, **headers).raise_for_status()
    except httpx.HTTPStatusError as error:
        return error
    raise AssertionError(f"{status} is no error")


def by_openai(status: int, body: Any = b"", **headers: str) -> Exception:
    """The error of OpenAI's library, which unwraps the body."""
    said = body.get("error", body) if isinstance(body, dict) else body
    answered = response(status, body, **headers)
    return APIStatusError(f"Error code: {status} - {said}", response=answered, body=said)


def by_anthropic(status: int, body: Any = b"", **headers: str) -> Exception:
    """The error of Anthropic's library."""
    answered = response(status, body, **headers)
    return APIStatusError(f"Error code: {status} - {body}", response=answered, body=body)


class OllamaError(Exception):
    """The ResponseError of Ollama's library; within a stream the status is -1."""

    def __init__(self, error: str, status_code: int = -1) -> None:
        super().__init__(error)
        self.error = error
        self.status_code = status_code

    def __str__(self) -> str:
        return f"{self.error} (status code: {self.status_code})"


def retrying(library: str, error: Exception) -> Exception:
    """The error as a library raises it that has made the request again by itself."""
    kind = type(error)
    error.__class__ = type(kind.__name__, (kind,), {"__module__": f"{library}._exceptions"})
    return error


def refused_address() -> str:
    """A URL where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def google(status: str, message: str, *details: dict[str, Any], code: int = 429) -> Any:
    """The body of an error of Google."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return {"error": error | ({"details": list(details)} if details else {})}


def openai(message: str, kind: str | None = None, code: str | None = None) -> Any:
    """The body of an error of OpenAI."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str) -> Any:
    """The body of an error of Anthropic."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


class _Model(llm.KeyModel):
    """A model that needs a key, and is never asked."""

    def execute(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("not asked")


def model(model_id: str, name: str | None, variable: str | None = None, **more: Any) -> Any:
    """A model that needs the key with this name in llm's keys, or in this variable."""
    made = _Model()
    vars(made).update(model_id=model_id, needs_key=name, key_env_var=variable, **more)
    return made


FLASH = model(GEMINI, "gemini", "LLM_GEMINI_KEY")
PRO = model("gemini/gemini-pro-latest", "gemini", "LLM_GEMINI_KEY")
CLAUDE = model("anthropic/claude", "anthropic", "ANTHROPIC_API_KEY")
GPT = model("gpt", "openai", "OPENAI_API_KEY")
SERVER = model("server", None)
LOCAL = model("mlx/toy", None, runs_here=True)
