"""Gemini behind the server: what is sent to Google, and what a client gets of its answers."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import gemini

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_httpx import HTTPXMock

    from tests.server.conftest import Client

pytestmark = pytest.mark.httpx_mock(should_mock=lambda request: request.url.host != "127.0.0.1")

PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}


def sent(mock: HTTPXMock) -> Any:
    """What Google was sent last."""
    return json.loads(mock.get_requests()[-1].content)


def test_image(client: Client, httpx_mock: HTTPXMock) -> None:
    """An image goes to the tier that reads it; its tokens and cached ones are counted."""
    end = gemini.last(gemini.text("dog"))
    end["usageMetadata"]["cachedContentTokenCount"] = 4
    gemini.answer(httpx_mock, gemini.chunk(gemini.text("A ")), end)
    image = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    response = client.post(model="tiered", complexity=2, messages=messages, max_tokens=9)
    body = response.json()
    assert body["choices"][0]["message"]["content"] == "A dog"
    assert body["model"] == response.headers["x-tiered-model"] == gemini.MODEL
    assert "mlx/toy-small skipped" in response.headers["x-tiered-fallback"]
    assert body["usage"]["prompt_tokens"] == 7
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    [content] = sent(httpx_mock)["contents"]
    kinds = {name for part in content["parts"] for name in part}
    assert kinds == {"text", "inlineData"}


def test_image_stays_here(client: Client, httpx_mock: HTTPXMock) -> None:
    """With local_only, an image goes nowhere, and its address is not looked up."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a"}}
    messages = [{"role": "user", "content": [image]}]
    status, _, message = client.error(model="tiered", local_only=True, messages=messages)
    assert status == 503
    assert "can't read attachments" in message
    assert httpx_mock.get_requests() == []


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_thoughts(client: Client, httpx_mock: HTTPXMock, stream: bool) -> None:
    """Thoughts and calls come in OpenAI's form, and results go back in Google's."""
    call = gemini.call("add", {"a": 1}, id="g1", signature="c2ln")
    gemini.answer(httpx_mock, gemini.chunk(gemini.thought("hmm")), gemini.last(call))
    asked = {"role": "user", "content": "Add"}
    body: dict[str, Any] = {"model": "tiered/cloud", "tools": [TOOL]}
    if stream:
        deltas = [e["choices"][0]["delta"] for e in client.events(messages=[asked], **body)[:-1]]
        [calls] = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
        thoughts = "".join(delta.get("reasoning_content", "") for delta in deltas)
    else:
        message = client.chat(messages=[asked], **body)["message"]
        calls, thoughts = message["tool_calls"], message["reasoning_content"]
    assert thoughts == "hmm"
    assert json.loads(calls[0]["function"]["arguments"]) == {"a": 1}
    gemini.answer(httpx_mock, *gemini.says("It is 1"))
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "1"}
    messages = [asked, {"role": "assistant", "tool_calls": calls}, result]
    assert client.chat(messages=messages, **body)["message"]["content"] == "It is 1"
    roles = [content["role"] for content in sent(httpx_mock)["contents"]]
    assert roles == ["user", "model", "user"]
    assert "function_response" in sent(httpx_mock)["contents"][-1]["parts"][0]


class Endless(httpx.AsyncByteStream):
    """An answer that never ends, and knows when nobody reads it any more."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The beginning of an answer."""
        yield gemini.body(gemini.chunk(gemini.text("half "))).removesuffix(b"\n]") + b"\n,\r\n"
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Note the end."""
        self.closed.set()


def test_client_leaves(client: Client, httpx_mock: HTTPXMock) -> None:
    """When the client leaves, Google's answer is no longer read."""
    stream = Endless()
    httpx_mock.add_response(url=gemini.URL, stream=stream)
    body = {"model": "tiered/cloud", "stream": True, "fallback": "none"}
    messages = [{"role": "user", "content": "Hello"}]
    with client.http.stream(
        "POST", "/v1/chat/completions", json=body | {"messages": messages}
    ) as response:
        assert "half" in next(response.iter_text())
    assert stream.closed.wait(10)


def test_broken_stream(client: Client, httpx_mock: HTTPXMock) -> None:
    """An answer that Google stops ends with an error, without the mark of a whole one."""
    chunks = gemini.chunk(gemini.text("half ")), gemini.last(finish="SAFETY")
    gemini.answer(httpx_mock, *chunks)
    *_, error = client.events(model="tiered/cloud", fallback="none")
    assert "SAFETY" in error["error"]["message"]
