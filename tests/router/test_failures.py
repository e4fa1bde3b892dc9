"""Exceptions turned into readable problems, with whether a retry may help."""

from __future__ import annotations

import socket
import time
from typing import Any

import httpx
import httpx2
import ijson  # type: ignore[import-untyped]  # it ships no types
import llm
import pytest
from pydantic import ValidationError

from llm_tiered import errors
from llm_tiered.mlx.options import MlxOptions
from llm_tiered.router.failures import explain
from llm_tiered.router.problem import Problem
from tests.router.services import FLASH, model, refused_address

GOOGLE_KEY = "AIza" + "Sy0123456789_abcdefghij-ABCDEFGHIJK"
KEY_FIX = "llm keys set gemini, or LLM_GEMINI_KEY"

# What Google says, by the status that llm-gemini does not hand on.
PASSING = [
    (429, "Resource has been exhausted (e.g. check quota)."),
    (
        429,
        "You exceeded your current quota, please check your plan and billing details. For more"
        " information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n"
        "* Quota exceeded for metric: generativelanguage.googleapis.com/"
        "generate_content_free_tier_requests, limit: 20, model: gemini-3.5-flash\n"
        "Please retry in 36.5s.",
    ),
    (500, "An internal error has occurred. Please retry or report in https://example.com/help"),
    (500, "Internal error encountered."),
    (503, "The model is overloaded. Please try again later."),
    (503, "The service is currently unavailable."),
    (
        503,
        "This model is currently experiencing high demand. Spikes in demand are usually"
        " temporary. Please try again later.",
    ),
    (504, "Deadline expired before operation could complete."),
    (504, "The request timed out. Please try again."),
]
LASTING = [
    (400, "Request contains an invalid argument."),
    (
        400,
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    (400, "Budget 500 is invalid. Please choose a value between 512 and 24576."),
]
NOT_SERVED = [
    (400, "User location is not supported for the API use."),
    (
        404,
        "models/gemini-0 is not found for API version v1beta, or is not supported for"
        " generateContent. Call ListModels to see the list of available models and their"
        " supported methods.",
    ),
]
WRONG_KEY = [
    (
        403,
        "Generative Language API has not been used in project 123456 before or it is disabled."
        " Enable it by visiting https://console.developers.google.com/apis/overview then retry."
        " If you enabled this API recently, wait a few minutes for the action to propagate to our"
        " systems and retry.",
    ),
    (400, "API key not valid. Please pass a valid API key."),
    (400, "API key expired. Please renew the API key."),
    (
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login"
        " cookie or other valid authentication credential.",
    ),
    (401, "API keys are not supported by this API. Expected OAuth2 access token."),
    (403, "Your API key was reported as leaked. Please use another API key."),
    (
        403,
        "Method doesn't allow unregistered callers (callers without established identity)."
        " Please use API Key or other form of API consumer identity to call this API.",
    ),
]


# Google's own errors


@pytest.mark.parametrize(("status", "message"), PASSING)
def test_transient_error_of_google(status: int, message: str) -> None:
    """Overload, quotas and Google's own failures are retried, and the model cools down."""
    problem = explain(llm.ModelError(message), model=FLASH)
    assert (problem.transient, problem.cools_down, problem.fix) == (True, True, None), status
    start = " ".join(message.split())[:280]
    assert problem.reason.startswith(start)


@pytest.mark.parametrize(("status", "message"), LASTING)
def test_lasting_error_of_google(status: int, message: str) -> None:
    """A problem with the request leads to no retry and no cooldown."""
    problem = explain(llm.ModelError(message))
    assert (problem.transient, problem.cools_down) == (False, False), status
    assert problem.reason == message


@pytest.mark.parametrize(("status", "message"), NOT_SERVED)
def test_model_that_google_does_not_serve(status: int, message: str) -> None:
    """A model that does not exist, or not here, is not asked again with each request."""
    problem = explain(llm.ModelError(message))
    assert problem == Problem(message, cools_down=True), status


@pytest.mark.parametrize(("status", "message"), WRONG_KEY)
def test_error_of_google_about_the_key(status: int, message: str) -> None:
    """A rejected key is reported with the command that sets another one, and not used again."""
    problem = explain(llm.ModelError(message), model=FLASH)
    assert problem == Problem(message[:300], KEY_FIX, cools_down=True, refuses_key=True), status


def test_error_without_a_message() -> None:
    """An error without a message says that the service gave no reason."""
    assert explain(llm.ModelError("")).reason == "the service gave no reason"


# The connection


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("name", ["ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"])
def test_timeout(library: Any, name: str) -> None:
    """Every timeout says that no answer came in time, and where the limit is set."""
    assert explain(getattr(library, name)("")) == Problem(
        "no answer in time", "timeout in the tier's options", transient=True, cools_down=True
    )


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_no_connection(library: Any) -> None:
    """A service that can't be reached points at the network."""
    assert explain(library.ConnectError("[Errno -2] Name or service not known")) == Problem(
        "can't be reached: [Errno -2] Name or service not known",
        "check the network",
        transient=True,
        cools_down=True,
    )


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("name", ["RemoteProtocolError", "ReadError", "WriteError", "CloseError"])
def test_broken_connection(library: Any, name: str) -> None:
    """A broken connection is transient."""
    assert explain(getattr(library, name)("peer closed connection")) == Problem(
        "the connection broke: peer closed connection", transient=True, cools_down=True
    )


REFUSED = "can't be reached: connection refused"


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_refused_connection(library: Any) -> None:
    """Where nothing listens, no retry helps, and the server has to be started."""
    url = refused_address()
    with pytest.raises(library.ConnectError) as caught:
        library.get(url)
    expected = Problem(REFUSED, "start the server, or check the network", cools_down=True)
    assert explain(caught.value) == expected
    async with library.AsyncClient() as client:
        with pytest.raises(library.ConnectError) as caught:
            await client.get(url)
    assert explain(caught.value) == expected


def test_refused_connection_in_the_words_of_ollama() -> None:
    """Ollama's library hides the error below its own; the fix is the command of its server."""
    ollama = model("ollama/llama3.2", None)
    ollama.__class__ = type("OllamaChatModel", (type(ollama),), {"__module__": "llm_ollama.chat"})

    def ask() -> None:
        try:
            httpx.get(refused_address())
        except httpx.ConnectError:
            raise ConnectionError("Failed to connect to Ollama.") from None

    with pytest.raises(ConnectionError) as caught:
        ask()
    assert explain(caught.value, model=ollama) == Problem(REFUSED, "ollama serve", cools_down=True)


def test_other_error_of_httpx() -> None:
    """An httpx error that is not about the connection is not transient."""
    assert explain(httpx.DecodingError("bad gzip")) == Problem("DecodingError: bad gzip")


# The answer


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        (b"", ""),
        (b"<html>502 Bad Gateway</html>", ": <html>502 Bad Gateway</html>"),
        (b'[{"candidates": [', ""),
    ],
)
def test_reply_that_is_not_json(body: bytes, quoted: str) -> None:
    """A truncated or invalid JSON reply is transient; what is not JSON is quoted."""
    with pytest.raises(ijson.JSONError) as caught:
        list(ijson.items(body, "item"))
    assert explain(caught.value) == Problem(
        f"the service sent no usable answer{quoted}", transient=True, cools_down=True
    )


def test_answer_without_events() -> None:
    """A reply without events, where llm-gemini takes the last one, is transient."""
    events: list[str] = []
    with pytest.raises(IndexError) as caught:
        events[-1]
    assert explain(caught.value) == Problem(
        "the service sent no usable answer", transient=True, cools_down=True
    )


# Keys and options


def test_no_key() -> None:
    """A missing key is reported with llm's own advice on setting one."""
    with pytest.raises(llm.NeedsKeyException) as caught:
        llm.get_model("gemini/gemini-flash-latest").get_key(None)
    problem = explain(caught.value)
    assert problem.reason == "no key"
    assert problem.fix == (
        "add one using 'llm keys set gemini' or set the LLM_GEMINI_KEY environment variable"
    )
    assert (problem.transient, problem.cools_down) == (False, False)


def test_wrong_options() -> None:
    """Every option that the model rejects is named, in one line."""
    with pytest.raises(ValidationError) as caught:
        MlxOptions.model_validate({"temperature": 3, "colour": "red"})
    assert explain(caught.value) == Problem(
        "wrong options: temperature: Input should be less than or equal to 2,"
        " colour: Extra inputs are not permitted"
    )


# Our own errors


@pytest.mark.parametrize(
    ("kind", "cools_down"),
    [
        (errors.EngineError, True),
        (errors.ModelUnavailable, True),
        (errors.DownloadError, True),
        (errors.DamagedModel, True),
        (errors.RequestError, False),
        (errors.PromptTooLong, False),
        (errors.ConfigError, False),
        (errors.EmptyAnswer, False),
        (errors.BrokenAnswer, False),
    ],
)
def test_own_error(kind: type[errors.TieredError], cools_down: bool) -> None:
    """Our own errors keep their message and fix; a broken model cools down."""
    problem = explain(kind("it is so", fix="mend it"))
    assert problem == Problem("it is so", "mend it", cools_down=cools_down)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("modelVersion"), "KeyError: 'modelVersion'"),
        (RuntimeError("odd"), "RuntimeError: odd"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_unknown_error(error: Exception, reason: str) -> None:
    """An unforeseen error is reported by type and message, and not retried."""
    assert explain(error) == Problem(reason)


# One short line without secrets


def test_reason_is_one_line() -> None:
    """Whatever the exception, the reason is a single line."""
    problem = explain(llm.ModelError("first\n\n  second\tthird \r\n"))
    assert problem.reason == "first second third"


@pytest.mark.parametrize("error", [llm.ModelError("x" * 1000), RuntimeError("x " * 1000)])
def test_reason_is_short(error: Exception) -> None:
    """A reason is cut at 300 characters."""
    assert len(explain(error).reason) == 300


@pytest.mark.parametrize("message", ["x" * 3_000_000, "x* " * 1_000_000, "***" * 1_000_000])
def test_long_message(message: str) -> None:
    """A service that sends a book as its reason costs no time."""
    started = time.perf_counter()
    explain(llm.ModelError(message), secrets=["sesame-42-open-the-door"])
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "error",
    [
        llm.ModelError("no such key: sesame-42!"),
        httpx.ConnectError("failed: https://example.com/?key=sesame-42!"),
        httpx.ReadError("sesame-42!"),
        errors.EngineError("sesame-42! was wrong"),
        RuntimeError("sesame-42!"),
    ],
)
def test_key_of_the_request_is_not_shown(error: Exception) -> None:
    """The request's key is removed from every kind of error."""
    reason = explain(error, secrets=[None, "", "sesame-42!"]).reason
    assert "sesame" not in reason
    assert "[key]" in reason


def test_key_that_looks_like_googles_is_not_shown() -> None:
    """A Google key is removed even if nothing declares it to be one."""
    reason = explain(llm.ModelError(f"consumer {GOOGLE_KEY} is suspended")).reason
    assert reason == "consumer [key] is suspended"


@pytest.mark.parametrize("secret", ["sesame-42-open-the-door", GOOGLE_KEY])
@pytest.mark.parametrize("told", [1, 5, 12, 19])
def test_key_at_the_cut_is_not_shown(secret: str, told: int) -> None:
    """A key that the length limit would split is removed whole."""
    filler = "x" * (300 - told - 1) + " "
    reason = explain(
        llm.ModelError(f"{filler}{secret}"), secrets=["sesame-42-open-the-door"]
    ).reason
    assert secret[:told] not in reason


@pytest.mark.parametrize("key", ["sesame42\n", "sesame42 \n", "sesame42\r\n", "sesame\n42"])
def test_key_that_is_not_a_header_is_not_shown(key: str) -> None:
    """A key with a line break, which the HTTP library quotes as it rejects it, is not shown."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(httpx.LocalProtocolError, match="sesame") as caught:
            httpx.get(url, headers={"x-goog-api-key": key})
    assert "sesame" not in explain(caught.value, secrets=[key]).reason


@pytest.mark.parametrize("key", ["\u201csesame-42\u201d", "sesame\u00e9"])
def test_key_with_a_sign_that_no_header_has(key: str) -> None:
    """Quotation marks that a page or a mail put around a key are told from other mistakes."""
    with pytest.raises(UnicodeEncodeError) as caught:
        httpx.get("http://127.0.0.1:9", headers={"x-goog-api-key": key})
    problem = explain(caught.value, model=FLASH)
    assert problem == Problem(problem.reason, KEY_FIX)
    assert "the key" in problem.reason


def test_request_that_is_refused_here_is_not_retried() -> None:
    """A request that the HTTP library refuses to send is not retried."""
    problem = explain(httpx.LocalProtocolError("Illegal header value b'…'"))
    assert (problem.transient, problem.cools_down) == (False, False)
