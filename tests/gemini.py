"""Answers of the Gemini API as Google sends them, for pytest-httpx to give."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pytest_httpx import HTTPXMock

MODEL = "gemini/gemini-flash-latest"
VERSION = "gemini-3-flash-preview"
KEY = "AQ.Ab8RN6KtestKeyOfNobody"
URL = re.compile(
    r"https://generativelanguage\.googleapis\.com/v1beta/models/[\w.-]+:streamGenerateContent"
)

Part = dict[str, Any]
Chunk = dict[str, Any]


def text(words: str, *, signature: str | None = None) -> Part:
    """A piece of the answer."""
    return {"text": words} | _signed(signature)


def thought(words: str) -> Part:
    """A piece of the summary of the reasoning."""
    return {"text": words, "thought": True}


def call(name: str, args: dict[str, Any], *, id: str, signature: str | None = None) -> Part:
    """A call of one of the caller's functions."""
    return {"functionCall": {"name": name, "args": args, "id": id}} | _signed(signature)


def code(source: str) -> Part:
    """Code that Google runs itself."""
    return {"executableCode": {"language": "PYTHON", "code": source}}


def code_result(output: str) -> Part:
    """What the code that Google ran put out."""
    return {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": output}}


def _signed(signature: str | None) -> Part:
    return {"thoughtSignature": signature} if signature else {}


def chunk(*parts: Part, **fields: Any) -> Chunk:
    """One element of the stream; `fields` belong to its candidate."""
    content = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
    return {
        "candidates": [content | {"index": 0} | fields],
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
        "modelVersion": VERSION,
        "responseId": "r-1",
    }


def last(*parts: Part, finish: str = "STOP", thoughts: int = 2, **fields: Any) -> Chunk:
    """The last element of the stream, with the final count of tokens."""
    ended = chunk(*parts, finishReason=finish, **fields)
    ended["usageMetadata"] = {
        "promptTokenCount": 7,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": 10 + thoughts,
    }
    return ended


def says(words: str) -> tuple[Chunk, ...]:
    """The words, half of them in each of two elements."""
    half = len(words) // 2
    return chunk(text(words[:half])), last(text(words[half:]))


def blocked(reason: str) -> Chunk:
    """The only element that comes for a prompt that is refused."""
    return {
        "promptFeedback": {"blockReason": reason},
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
        "modelVersion": VERSION,
    }


@dataclass
class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in small pieces, cut where they happen to be, and may break off."""

    body: bytes
    error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        """The pieces, then the error if there is one."""
        size = 37
        for start in range(0, len(self.body), size):
            yield self.body[start : start + size]
        if self.error:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Async counterpart of `__iter__`."""
        for piece in self:
            yield piece


def body(*chunks: Chunk) -> bytes:
    """The elements as one JSON array, laid out as Google does."""
    elements = [json.dumps(chunk, indent=2, ensure_ascii=False) for chunk in chunks]
    return ("[" + "\n,\r\n".join(elements) + "\n]").encode()


def answer(mock: HTTPXMock, *chunks: Chunk) -> None:
    """Answer the next request with these elements."""
    mock.add_response(url=URL, method="POST", stream=Stream(body(*chunks)))


def answer_and_break(mock: HTTPXMock, *chunks: Chunk, error: Exception) -> None:
    """Answer the next request with these elements, and then break the connection."""
    unfinished = body(*chunks).removesuffix(b"\n]") + b"\n,\r\n"
    mock.add_response(url=URL, method="POST", stream=Stream(unfinished, error))


@dataclass(frozen=True)
class Failure:
    """A way in which a request fails before there is any output.

    Either it is an answer, with its status and its body, or `error` is what httpx raises.
    """

    status: int = 200
    body: bytes = b""
    error: Callable[[], Exception] | None = None

    def answer(self, mock: HTTPXMock) -> None:
        """Let the next request fail."""
        self._add(mock)

    def answer_all(self, mock: HTTPXMock) -> None:
        """Let all requests fail, however many there are."""
        self._add(mock, is_reusable=True, is_optional=True)

    def _add(self, mock: HTTPXMock, **matching: bool) -> None:
        def fail(request: httpx.Request) -> httpx.Response:
            if self.error:
                raise self.error()
            return httpx.Response(self.status, stream=Stream(self.body))

        mock.add_callback(fail, url=URL, method="POST", **matching)


def refused(
    code: int, status: str, message: str, *details: dict[str, Any], as_list: bool = True
) -> Failure:
    """The API's own answer to a request that it does not serve."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    answer: Any = {"error": error | ({"details": list(details)} if details else {})}
    return Failure(code, json.dumps([answer] if as_list else answer, indent=2).encode())


WRONG_KEY = refused(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
BAD_REQUEST = refused(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
WRONG_PLACE = refused(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")
DISABLED = refused(
    403,
    "PERMISSION_DENIED",
    "Generative Language API has not been used in project 123456 before or it is disabled. "
    "Enable it by visiting https://console.developers.google.com/apis/api/"
    "generativelanguage.googleapis.com/overview?project=123456 then retry. If you enabled this "
    "API recently, wait a few minutes for the action to propagate to our systems and retry.",
)
NO_SUCH_MODEL = refused(
    404,
    "NOT_FOUND",
    "models/gemini-flash-latest is not found for API version v1beta, or is not supported for "
    "generateContent. Call ListModels to see the list of available models and their supported "
    "methods.",
)
QUOTA = refused(
    429,
    "RESOURCE_EXHAUSTED",
    "You exceeded your current quota, please check your plan and billing details. For more "
    "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n"
    "* Quota exceeded for metric: generativelanguage.googleapis.com/"
    "generate_content_free_tier_requests, limit: 20\nPlease retry in 36.6s.",
)
DAILY_QUOTA = refused(
    429,
    "RESOURCE_EXHAUSTED",
    "You exceeded your current quota, please check your plan and billing details.\n"
    "Please retry in 7.6s.",
    {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
    },
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
)
NO_CREDIT = refused(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")
TOO_LARGE = refused(
    413,
    "INVALID_ARGUMENT",
    "Request payload size exceeds the limit: 20971520 bytes.",
    as_list=False,
)
INTERNAL = refused(
    500,
    "INTERNAL",
    "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
)
OVERLOADED = refused(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
HIGH_DEMAND = refused(
    503,
    "UNAVAILABLE",
    "This model is currently experiencing high demand. Spikes in demand are usually temporary. "
    "Please try again later.",
)
DEADLINE = refused(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.")
NOTHING = Failure(200, b"")
HTML = Failure(
    502,
    b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 502 (Server Error)!!1</title>\n"
    b"<p><b>502.</b> <ins>That\xe2\x80\x99s an error.</ins>\n</html>\n",
)
TIMEOUT = Failure(error=lambda: httpx.ReadTimeout("The read operation timed out"))
UNREACHABLE = Failure(error=lambda: httpx.ConnectError("[Errno -2] Name or service not known"))
HUNG_UP = Failure(
    error=lambda: httpx.RemoteProtocolError("Server disconnected without sending a response.")
)


def sent(mock: HTTPXMock) -> list[dict[str, Any]]:
    """The bodies of the requests made so far."""
    return [json.loads(request.content) for request in mock.get_requests(url=URL)]
