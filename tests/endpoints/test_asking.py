"""A prompt to a server and its answer, through `tiered`, sync and async."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.endpoints import clients
from tests.endpoints.conftest import serve
from tests.endpoints.scripted_server import (
    ID,
    MODEL,
    chunk,
    endless,
    event,
    raw,
    says,
    streamed,
    text,
    whole,
)
from tests.toys import SMALL

if TYPE_CHECKING:
    from tests.endpoints.scripted_server import ScriptedServer
    from tests.toys import Ask, Toys

HALVES = (b"a\\ud83d", b"\\ude00b", b"\\ud83dc")
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


async def test_an_answer(ask: Ask, server: ScriptedServer) -> None:
    """The answer is streamed, and the response knows who gave it and what it took."""
    response = ask.model.prompt("Say hello.", tier="medium", system="Be brief.")
    events = await ask.events(response)
    assert [(event.type, event.chunk) for event in events] == [("text", "Hel"), ("text", "lo")]
    assert (response.resolved_model, response.input_tokens, response.output_tokens) == (ID, 7, 3)
    assert response.response_json["response"] == {
        "server": server.address,
        "id": "chatcmpl-1",
        "model": MODEL,
        "finish_reason": "stop",
    }
    assert server.bodies == [
        {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Say hello."},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


async def test_options(ask: Ask, toys: Toys, server: ScriptedServer) -> None:
    """Options go by the names that all servers know; those of the config may be of any name."""
    serve(toys, server, options={"max_tokens": 9, "min_p": 0.1, "chat_template_kwargs": {"a": 1}})
    await ask("Go", tier="medium", temperature=0, seed=3, stop='["a"]', thinking=False)
    sent = server.bodies[0]
    del sent["messages"], sent["stream"], sent["stream_options"], sent["model"]
    assert sent == {
        "max_tokens": 9,
        "min_p": 0.1,
        "temperature": 0,
        "seed": 3,
        "stop": ["a"],
        "chat_template_kwargs": {"a": 1, "enable_thinking": False},
    }


async def test_thoughts(ask: Ask, server: ScriptedServer) -> None:
    """Thoughts come under either name, or under both at once; earlier ones are not sent back."""
    conversation = ask.model.conversation()
    for names in (["reasoning"], ["reasoning_content"], ["reasoning", "reasoning_content"]):
        thought = chunk({"content": None} | dict.fromkeys(names, "Hm."))
        server.say(streamed(thought, *text("Yes.")))
        response = await ask("Sure?", to=conversation, tier="medium")
        kinds = [(event.type, event.chunk) for event in response._stream_events]
        assert kinds == [("reasoning", "Hm."), ("text", "Yes.")]
    turn = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]
    assert server.bodies[-1]["messages"] == [*turn, *turn, turn[0]]


async def test_text_in_parts(ask: Ask, server: ScriptedServer) -> None:
    """Text may come in parts, and its characters in halves, whose other half may be missing."""
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo "}]
    halves = [b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % each for each in HALVES]
    server.say(streamed(chunk({"content": parts})), raw(*halves, event(chunk(finish="stop"))))
    assert (await ask("Go", tier="medium")).text_or_raise() == "Hello "
    assert (await ask("Go", tier="medium")).text_or_raise() == "a😀b\ufffdc"


async def test_usage(ask: Ask, server: ScriptedServer) -> None:
    """Cached tokens and thoughts are known; nonsense is as good as nothing."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    cases: list[tuple[Any, Any]] = [
        ({"prompt_tokens": 7, "completion_tokens": 3} | details, (7, 3, details)),
        ({"prompt_tokens": 0, "completion_tokens": "3"}, (None, None, None)),
        ({"prompt_tokens": -1, "completion_tokens": True}, (None, None, None)),
        ({"prompt_tokens": 10**30, "completion_tokens": 2**62}, (None, None, None)),
        (
            {"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": 9}},
            (4, None, None),
        ),
        ([1], (None, None, None)),
        (None, (None, None, None)),
    ]
    for usage, expected in cases:
        server.say(says("Hello", usage=usage))
        response = await ask("Go", tier="medium")
        counted = (response.input_tokens, response.output_tokens, response.token_details)
        assert counted == expected


async def test_tools(ask: Ask, server: ScriptedServer) -> None:
    """Calls are put together from their pieces, run, and their results are sent."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def call(index: int, id_: str | None, name: str | None, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return chunk({"tool_calls": [{"index": index, "id": id_, "function": function}]})

    server.say(
        streamed(
            *text("Let me see."),
            call(0, "call_a", "add", ""),
            call(0, None, None, '{"a": 1,'),
            call(1, "call_b", "add", '{"a": 2, "b": 2}'),
            call(0, None, None, ' "b": 1}'),
            finish="tool_calls",
        ),
        says("2 and 4"),
    )
    chain = ask.model.chain("Add", tools=[add], options={"tier": "medium"})
    *_, last = await ask.finish(chain)
    assert last.text_or_raise() == "2 and 4"
    first, second = server.bodies
    assert first["tool_choice"] == "auto"
    [tool] = first["tools"]
    assert tool["function"]["name"] == "add"
    assert tool["function"]["description"] == "Add two numbers."
    _, answer, *results = second["messages"]
    assert answer["content"] == "Let me see."
    made = [
        (each["id"], json.loads(each["function"]["arguments"])) for each in answer["tool_calls"]
    ]
    assert made == [("call_a", {"a": 1, "b": 1}), ("call_b", {"a": 2, "b": 2})]
    assert results == [
        {"role": "tool", "tool_call_id": "call_a", "content": "2"},
        {"role": "tool", "tool_call_id": "call_b", "content": "4"},
    ]


async def test_a_schema_that_is_ignored(ask: Ask, server: ScriptedServer) -> None:
    """Prose is given back once with the schema; the second time another model is asked."""
    server.say(says("He is three."), says('{"age"', ": 3}"))
    response = await ask("How old?", tier="medium", schema=SCHEMA)
    assert (response.resolved_model, response.text_or_raise()) == (ID, '{"age": 3}')
    first, second = server.bodies
    assert first["response_format"]["type"] == "json_schema"
    assert first["response_format"]["json_schema"]["schema"] == SCHEMA
    assert second["messages"][1] == {"role": "assistant", "content": "He is three."}
    assert json.dumps(SCHEMA, separators=(",", ":")) in second["messages"][2]["content"]
    server.say(says("He is three."), says("Three!"))
    with pytest.raises(llm.ModelError, match="the answer is not JSON"):
        await ask("How old?", tier="medium", schema=SCHEMA, fallback="none")


async def test_a_weak_answer(ask: Ask, server: ScriptedServer) -> None:
    """Answers are judged by the server's log-probabilities, if they are to be judged."""
    unsure = {"content": [{"token": "Hm", "logprob": -4.0, "bytes": [72, 109]}]}
    server.say(streamed(chunk({"content": "Hm"}, logprobs=unsure)))
    response = await ask("Go", tier="medium", escalate=True, fallback="local")
    assert server.bodies[0]["logprobs"] is True
    # No higher tier may answer, so the weak answer is shown after all.
    first, *_, last = response.response_json["tiered"]["attempts"]
    assert "the model is unsure (log-probability -4.0, mean)" in first["reason"]
    assert (last["model"], last["outcome"], response.text_or_raise()) == (ID, "ok", "Hm")
    server.say(says("Sure"))
    assert (await ask("Go", tier="medium", escalate=True)).text_or_raise() == "Sure"
    await ask("Go", tier="medium")
    assert "logprobs" not in server.bodies[2]


async def test_logprobs(ask: Ask, server: ScriptedServer) -> None:
    """`-o logprobs` reports them as the server gives them."""
    tokens = [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}]
    server.say(streamed(chunk({"content": "Hi"}, logprobs={"content": tokens})))
    response = await ask("Go", tier="medium", logprobs=1)
    assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 1)
    facts = response.response_json["response"]
    assert (facts["logprobs"], facts["mean_logprob"]) == ({"content": tokens}, -0.5)


async def test_a_reply_that_is_not_streamed(ask: Ask, server: ScriptedServer) -> None:
    """A whole completion is as good as a stream."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": "Hello", "reasoning": "Hm.", "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    server.say(whole(200, {"object": "chat.completion", "choices": [choice], "usage": usage}))
    response = await ask("Go", tier="medium")
    kinds = [event.type for event in response._stream_events]
    assert kinds == ["reasoning", "text", "tool_call_name", "tool_call_args"]
    assert [(each.name, each.arguments) for each in response._tool_calls] == [("f", {"a": 1})]
    assert response.input_tokens == 7


async def test_images(ask: Ask, toys: Toys, server: ScriptedServer) -> None:
    """Images are sent if the config says that the model reads them, else it is not asked."""
    image = llm.Attachment(type="image/png", content=b"\x89PNG")
    with pytest.raises(llm.ModelError, match="images: true"):
        await ask("What is it?", tier="medium", attachments=[image], fallback="none")
    assert server.bodies == []
    serve(toys, server, images=True)
    await ask("What is it?", tier="medium", attachments=[image])
    assert server.bodies[0]["messages"][0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
    ]


async def test_keys(
    ask: Ask, toys: Toys, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server gets the key that the config names, and nothing that is meant for OpenAI."""
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "ADMIN_KEY"):
        monkeypatch.setenv(f"OPENAI_{name}", "secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: secret")
    await ask("Go", tier="medium")
    assert not [each for each in server.headers[0].values() if "secret" in each]
    serve(toys, server, key="box")
    assert (await ask("Go", tier="medium")).resolved_model == SMALL
    monkeypatch.setattr("llm.load_keys", lambda: {"box": "sk-0123456789"})
    await ask("Go", tier="medium")
    assert server.headers[-1]["authorization"] == "Bearer sk-0123456789"


async def test_a_key_that_comes_back(
    ask: Ask, toys: Toys, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that repeats its key does not get it into the log."""
    serve(toys, server, key="box")
    monkeypatch.setattr("llm.load_keys", lambda: {"box": "sk-0123456789"})
    choice = {"message": {"content": "Hello"}, "finish_reason": "stop"}
    server.say(whole(200, {"id": "for sk-0123456789", "model": "m", "choices": [choice]}))
    response = await ask("Go", tier="medium")
    told = response.response_json["response"]
    assert (told["id"], told["model"]) == ("for [key]", "m")


async def test_no_proxy_for_this_machine(
    ask: Ask, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, connections: list[Any]
) -> None:
    """A proxy in the environment is not asked to connect to this machine."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await ask("Go", tier="medium")).resolved_model == ID
    assert [address[1] for address in connections] == [server.port]


async def test_no_proxy_for_a_name_that_is_not_known(
    ask: Ask, toys: Toys, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of this machine that its resolver does not know is not looked up by a proxy."""
    monkeypatch.setenv("http_proxy", server.address.removesuffix("/v1"))
    monkeypatch.setattr(clients, "_numbers", lambda _: [])
    serve(toys, server, server="http://localhost:9", place="here")
    response = await ask("Go", tier="medium", local_only=True)
    assert (response.resolved_model, server.paths) == (SMALL, [])


async def test_given_up(ask: Ask, server: ScriptedServer) -> None:
    """Whoever stops reading an answer ends it on the server."""
    server.say(endless("on "))
    response = ask.model.prompt("Go on.", tier="medium")
    if ask.asynchronous:
        async for _ in response:
            break
        await response._generator.aclose()
    else:
        events = response.stream_events()
        next(events)
        events.close()
    assert server.gone.wait(10)
