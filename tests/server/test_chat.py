"""Chat completions over HTTP: whole, in a stream, with tools, schemas, thoughts and errors."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import StreamEvent

from llm_tiered.errors import EngineError
from llm_tiered.server import chat

if TYPE_CHECKING:
    from tests.server.conftest import Client, Running
    from tests.toys import Toys

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
CALL = llm.ToolCall(name="add", arguments={"a": 1}, tool_call_id="call_1")


def user(text: str) -> dict[str, str]:
    """A message of the user."""
    return {"role": "user", "content": text}


def test_whole(client: Client) -> None:
    """A whole answer has its text, its tokens and its end; the headers say who answered and why."""
    response = client.post()
    body = response.json()
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "small answer", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 7
    assert (body["object"], body["model"]) == ("chat.completion", "mlx/toy-small")
    headers = response.headers
    assert headers["x-tiered-model"] == "mlx/toy-small"
    assert (headers["x-tiered-tier"], headers["x-tiered-source"]) == ("small", "tier")
    assert body["id"] == f"chatcmpl-{headers['x-tiered-turn']}"
    assert "x-tiered-fallback" not in headers


def test_stream(client: Client) -> None:
    """A stream has a chunk for each piece, its end, its tokens if asked for, and a mark."""
    *chunks, last, usage, mark = client.events(stream_options={"include_usage": True})
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "small "},
        {"content": "answer"},
    ]
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert (usage["choices"], usage["usage"]["prompt_tokens"]) == ([], 5)
    assert mark == "[DONE]"
    assert all("usage" not in event for event in client.events()[:-1])


def test_stream_says_who_answers(client: Client, toys: Toys) -> None:
    """The headers of a stream name the model that took over, and why it did."""
    toys.small.does = [EngineError("out of memory")]
    response = client.post(stream=True)
    assert response.headers["x-tiered-model"] == "mlx/toy-medium"
    assert response.headers["x-tiered-tier"] == "medium"
    assert response.headers["x-tiered-fallback"] == "mlx/toy-small failed: out of memory"


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning(client: Client, toys: Toys, stream: bool) -> None:
    """Thoughts come under both names that clients look for, apart from the answer."""
    toys.small.does = [StreamEvent(type="reasoning", chunk="hmm"), "answer"]
    if stream:
        parts = [event["choices"][0]["delta"] for event in client.events()[:-1]]
        assert {name: part[name] for part in parts for name in part if "reason" in name} == {
            "reasoning_content": "hmm",
            "reasoning": "hmm",
        }
    else:
        message = client.chat()["message"]
        assert message["reasoning_content"] == message["reasoning"] == "hmm"
        assert message["content"] == "answer"


@pytest.mark.parametrize("stream", [False, True])
def test_tools(client: Client, toys: Toys, stream: bool) -> None:
    """Calls of tools end the answer, and their results go to the model with the next request."""
    toys.small.tools = True
    toys.small.does = [CALL, llm.ToolCall("add", {"a": 2}, "call_2")]
    toys.small.then = ["three"]
    if stream:
        events = [event["choices"][0] for event in client.events(tools=[TOOL])[:-1]]
        calls = [call for event in events for call in event["delta"].get("tool_calls", [])]
        assert [call.pop("index") for call in calls] == [0, 1]
        reason = events[-1]["finish_reason"]
    else:
        choice = client.chat(tools=[TOOL])
        calls, reason = choice["message"]["tool_calls"], choice["finish_reason"]
        assert choice["message"]["content"] is None
    assert reason == "tool_calls"
    assert calls[0] == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1}'},
    }
    messages: list[Any] = [
        user("Add"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "2"}]},
    ]
    assert client.chat(messages=messages, tools=[TOOL])["message"]["content"] == "three"
    prompt = toys.small.prompts[-1]
    assert [(result.name, result.output) for result in prompt.tool_results] == [
        ("add", "1"),
        ("add", "2"),
    ]
    assert [message.role for message in prompt.messages] == ["user", "assistant", "tool"]


def test_stuck_in_a_tool_loop(client: Client, toys: Toys) -> None:
    """If a model makes the same call again, with the same result, the next tier up answers."""
    toys.small.tools = toys.medium.tools = True
    toys.small.does = [CALL]
    body: dict[str, Any] = {"model": "tiered", "complexity": 2, "tools": [TOOL]}
    messages: list[Any] = [user("Add")]
    for _ in range(2):
        message = client.chat(messages=messages, **body)["message"]
        result = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
        messages += [message, result]
    assert client.chat(messages=messages, **body)["message"]["content"] == "medium answer"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_has_to_be(client: Client, toys: Toys, choice: Any, stream: bool) -> None:
    """Where a tool has to be called, an answer in words is an error, before any of it is sent."""
    toys.small.tools = True
    toys.small.does = ["words"]
    toys.small.then = [CALL]
    wanted: dict[str, Any] = {"tools": [TOOL], "tool_choice": choice, "stream": stream}
    assert client.error(**wanted)[:2] == (502, "no_tool_call")
    assert client.post(**wanted).status_code == 200


def test_no_tools(client: Client, toys: Toys) -> None:
    """With tool_choice none, the model gets no tools."""
    toys.small.tools = True
    assert client.chat(tools=[TOOL], tool_choice="none")["finish_reason"] == "stop"
    assert toys.small.prompts[-1].tools == []


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    ],
)
def test_schema(client: Client, toys: Toys, form: dict[str, Any]) -> None:
    """JSON is checked before it is sent; what does not fit is an answer of no model."""
    for toy in (toys.small, toys.medium):
        toy.schemas = True
        toy.does, toy.then = ["{}"], ["no JSON"]
    body: dict[str, Any] = {"response_format": form, "local_only": True}
    assert client.chat(**body)["message"]["content"] == "{}"
    toys.medium.does = ["no JSON"]
    assert client.error(**body)[:2] == (502, "no_model_answered")


def test_stop(client: Client, toys: Toys) -> None:
    """A text ends before a stop text, whatever pieces it comes in, also from models without it."""
    toys.small.does = ["one E", "N", "D two"]
    choice = client.chat(stop="END")
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one ", "stop")
    deltas = [event["choices"][0]["delta"] for event in client.events(stop=["END", "x"])[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == "one "
    assert client.chat(stop=["ENDE"])["message"]["content"] == "one END two"


def test_cut_off(client: Client, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that the limit of tokens ended says so."""
    script = toys.small.script

    def cut_off(prompt: llm.Prompt, response: Any) -> Any:
        yield from script(prompt, response)
        response.response_json = {"finish_reason": "length"}

    monkeypatch.setattr(toys.small, "script", cut_off)
    assert client.chat(max_completion_tokens=2)["finish_reason"] == "length"


def test_broken_stream(client: Client, toys: Toys) -> None:
    """An answer that breaks off ends with an error, and without the mark of a whole answer."""
    toys.small.does = ["half ", EngineError("out of memory")]
    first, error = client.events()
    assert first["choices"][0]["delta"]["content"] == "half "
    assert error["error"]["code"] == "model_failed"
    assert "out of memory" in error["error"]["message"]
    assert client.error()[:2] == (502, "model_failed")


def test_no_model(client: Client, toys: Toys) -> None:
    """If no model answers, the error lists the attempts, and clients do not try it all again."""
    toys.small.does = toys.medium.does = [EngineError("out of memory")]
    response = client.post(stream=True, model="tiered/local")
    assert response.status_code == 502
    assert "mlx/toy-small) failed: out of memory" in response.json()["error"]["message"]
    assert response.headers["x-should-retry"] == "false"
    # Now both are left alone for a while.
    assert client.error(model="tiered/local")[0] == 503


def test_client_leaves(client: Client, toys: Toys) -> None:
    """When the client leaves, the model is stopped."""
    stopped = threading.Event()

    def endless(prompt: llm.Prompt, response: Any) -> Any:
        try:
            while True:
                yield "more "
                yield _nothing()
        finally:
            stopped.set()

    vars(toys.small)["script"] = endless
    with client.http.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "tiered/small", "stream": True, "messages": [user("Hello")]},
    ) as response:
        assert "more" in next(response.iter_text())
    assert stopped.wait(10)


async def _nothing() -> str:
    await asyncio.sleep(0.001)
    return ""


def test_large_body(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is too large is an error."""
    monkeypatch.setattr(chat, "LARGEST_BODY", 1000)
    assert client.error(messages=[user("x" * 1000)])[:2] == (413, "request_too_large")


def test_slow_body(client: Client, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not end is not waited for."""
    monkeypatch.setattr(chat, "PATIENCE", 0.05)
    with running.connect() as connection:
        connection.settimeout(10)
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_too_many(client: Client, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the line is full, the client learns when to come again."""
    monkeypatch.setattr(running.endpoints.line, "_most", 0)
    response = client.post()
    assert response.status_code == 429
    assert response.headers["retry-after"] == "5"
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert client.http.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("model", ["tiered/small", "mlx/toy-small"])
def test_config_that_breaks(client: Client, toys: Toys, model: str) -> None:
    """A request that has begun ends as the config was; the next one is told what is wrong."""
    intact = toys.config_file.read_text()

    def break_config() -> None:
        toys.config_file.write_text("tiers: [")

    toys.small.does = [break_config, "small answer"]
    assert client.chat(model=model)["message"]["content"] == "small answer"
    toys.small.does = ["small answer"]
    assert client.error(model=model)[:2] == (500, "config_error")
    toys.config_file.write_text(intact)
    assert client.chat(model=model)["message"]["content"] == "small answer"


def test_unsupported(client: Client, toys: Toys) -> None:
    """A model that can't do what is asked is called by its name."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    response = client.post(model="mlx/toy-small", messages=[user("Hello")], tools=[tool])
    message = response.json()["error"]["message"]
    assert (response.status_code, message) == (400, "mlx/toy-small does not support tools")


def test_readme(client: Client, running: Running) -> None:
    """What the README types is answered."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    [(path, typed)] = re.findall(
        r"^curl http://127.0.0.1:8484(\S+) -d '(.*?)'$", readme, re.M | re.S
    )
    # curl says that this is a form.
    form = {"content-type": "application/x-www-form-urlencoded"}
    response = client.http.post(path, content=typed, headers=form)
    assert response.json()["choices"][0]["message"]["content"] == "small answer"


def test_models(client: Client) -> None:
    """The models are `tiered`, its tiers, and each local model; one can be asked for."""
    names = [model["id"] for model in client.http.get("/v1/models").json()["data"]]
    assert names[:6] == [
        *("tiered", "tiered/local", "tiered/small", "tiered/medium", "tiered/cloud"),
        "tiered/embedded",
    ]
    assert {"mlx/toy-small", "mlx/SmolLM2-135M-Instruct"} <= {*names}
    assert client.http.get("/v1/models/tiered/small").json()["id"] == "tiered/small"
    assert client.http.get("/v1/models/none").status_code == 404
    assert client.error(model="tierde")[:2] == (404, "model_not_found")


def test_metrics(client: Client) -> None:
    """The metrics count requests, answers and tokens, and hold no text."""
    client.chat(messages=[user("a secret")])
    client.error(n=2)
    text = client.http.get("/metrics").text
    assert 'llm_tiered_answers_total{model="mlx/toy-small",tier="small"}' in text
    assert 'llm_tiered_requests_total{status="400"}' in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/v1/chat/completions", 405, "method_not_allowed"), ("/v1/x", 404, "not_found")],
)
def test_wrong_address(client: Client, path: str, status: int, code: str) -> None:
    """An address that is not there is an error in OpenAI's form."""
    response = client.http.get(path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
