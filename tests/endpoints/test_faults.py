from __future__ import annotations

import socket
import ssl

import httpx2
import pytest

from llm_tiered.endpoints.faults import Fault, fault_of
from llm_tiered.errors import MissingModel, RequestError


class APIStatusError(Exception):
    """The error of OpenAI's library for a status."""

    def __init__(self, code: int, headers: dict[str, str]) -> None:
        super().__init__("x")
        self.status_code = code
        self.response = httpx2.Response(code, headers=headers)


class APIConnectionError(Exception):
    """The error of OpenAI's library for a connection that failed."""


class APITimeoutError(APIConnectionError):
    """The error of OpenAI's library for an answer that did not come."""


def status(code: int, **headers: str) -> Exception:
    """The error for a status."""
    return APIStatusError(code, headers)


def caused(error: Exception, cause: Exception) -> Exception:
    """An error with a cause."""
    error.__cause__ = cause
    return error


def connection(cause: Exception, *below: Exception) -> Exception:
    """The error of OpenAI's library for one of the HTTP library."""
    for each in below:
        cause = caused(cause, each)
    return caused(APIConnectionError(), cause)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (connection(httpx2.ConnectError("x"), ConnectionRefusedError()), "down"),
        (connection(httpx2.ConnectError("x"), socket.gaierror("no such host")), "down"),
        (connection(httpx2.ConnectError("x"), ssl.SSLError("self-signed")), "down"),
        (caused(APITimeoutError(), httpx2.ConnectTimeout("x")), "down"),
        (caused(APITimeoutError(), httpx2.ReadTimeout("x")), "silent"),
        (httpx2.ReadTimeout("x"), "silent"),
        (TimeoutError(), "silent"),
        (connection(httpx2.RemoteProtocolError("x")), "passing"),
        (httpx2.ReadError("x"), "passing"),
        (ConnectionResetError(), "passing"),
        (status(500), "passing"),
        (status(502), "passing"),
        (status(503), "passing"),
        (status(429), "passing"),
        (status(429, **{"retry-after": "Sat, 28 Nov 2026 23:00:00 GMT"}), "passing"),
        (status(404), "down"),
        (status(301), "down"),
    ],
)
def test_of_the_server(error: Exception, fault: str) -> None:
    """These errors say something about the server, so another one may do better."""
    told = fault_of(error)
    assert told is not None
    assert told.kind == fault
    assert told.reason


@pytest.mark.parametrize(
    "error",
    [
        *(status(400), status(401), status(403), status(413), status(422), status(501)),
        *(caused(APITimeoutError(), httpx2.PoolTimeout("x")),),
        *(RequestError("can't do schemas"), ValueError("x"), KeyError("x")),
    ],
)
def test_of_the_request(error: Exception) -> None:
    """These errors are about the request, or our own: another server would say the same."""
    assert fault_of(error) is None


def test_of_the_model() -> None:
    """A server that does not have the model is well, though another one may have it."""
    error = caused(MissingModel("has no model 'big'"), status(404))
    assert fault_of(error) == Fault("model", "has no model 'big'")


def test_time_to_wait() -> None:
    """A server that says how long it has no time is believed."""
    assert fault_of(status(429, **{"retry-after": "7"})) == Fault("busy", "HTTP 429", 7.0)
    assert fault_of(status(503, **{"retry-after": "1.5"})) == Fault("busy", "HTTP 503", 1.5)


def test_reason_of_a_name_that_is_not_known() -> None:
    """What is below the library's "Connection error." is told."""
    error = connection(httpx2.ConnectError("x"), socket.gaierror("no such host"))
    told = fault_of(error)
    assert told == Fault("down", "can't be reached: no such host")
