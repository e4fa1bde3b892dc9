"""Functions of other packages with HTTP clients that raise an error with its whole body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import llm_gemini
import pytest

from llm_tiered.strict_http import with_strict_clients
from tests.gemini import Stream

if TYPE_CHECKING:
    from pytest_httpx import HTTPXMock

URL = "https://service.example/v1"
BODY = b'{"error": {"code": 413, "message": "the request is larger than what is allowed here"}}'


def read(url: str, *, timeout: float | None = None) -> list[bytes]:
    """What llm-gemini does: read an answer of any status piece by piece."""
    with httpx.stream("POST", url, json={}, timeout=timeout) as response:
        return list(response.iter_bytes())


async def read_async(url: str) -> list[bytes]:
    """Async counterpart of `read`."""
    async with httpx.AsyncClient() as client, client.stream("POST", url, json={}) as response:
        return [piece async for piece in response.aiter_bytes()]


async def ask(*, asynchronous: bool) -> list[bytes]:
    """Read an answer with strict clients."""
    if asynchronous:
        pieces: list[bytes] = await with_strict_clients(read_async)(URL)
        return pieces
    answer: list[bytes] = with_strict_clients(read)(URL, timeout=3)
    return answer


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_error_is_whole(httpx_mock: HTTPXMock, asynchronous: bool) -> None:
    """An error has its status, its headers and all of its body."""
    headers = {"retry-after": "7"}
    httpx_mock.add_response(413, headers=headers, stream=Stream(BODY))
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await ask(asynchronous=asynchronous)
    response = caught.value.response
    assert (response.status_code, response.content) == (413, BODY)
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_error_that_breaks_off(httpx_mock: HTTPXMock, asynchronous: bool) -> None:
    """An error whose body breaks off has its status."""
    httpx_mock.add_response(503, stream=Stream(BODY, httpx.ReadError("reset")))
    with pytest.raises(httpx.HTTPStatusError, match="503"):
        await ask(asynchronous=asynchronous)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_answer_comes_in_pieces(httpx_mock: HTTPXMock, asynchronous: bool) -> None:
    """An answer is not read before the function reads it."""
    httpx_mock.add_response(200, stream=Stream(BODY))
    assert len(await ask(asynchronous=asynchronous)) > 1


def test_others_notice_nothing(httpx_mock: HTTPXMock) -> None:
    """The function itself and its module keep their clients."""
    httpx_mock.add_response(413, stream=Stream(BODY))
    with_strict_clients(read)
    assert b"".join(read(URL)) == BODY
    assert llm_gemini.httpx is httpx


def test_other_functions() -> None:
    """What makes no clients is not changed."""
    assert with_strict_clients(test_other_functions) is test_other_functions
    assert with_strict_clients(len) is len


@pytest.mark.parametrize("model", [llm_gemini.GeminiPro, llm_gemini.AsyncGeminiPro])
def test_llm_gemini(model: type[llm_gemini.GeminiPro]) -> None:
    """llm-gemini makes its clients with the name that is exchanged."""
    assert with_strict_clients(model.execute) is not model.execute
