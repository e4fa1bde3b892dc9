"""What only some tiers support: tools, schemas, attachments, reasoning, server-side tools."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import llm_gemini
import pydantic
import pytest
import sqlite_utils
from llm.logs import LogStore
from llm.parts import StreamEvent

from llm_tiered.errors import AllTiersFailed
from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
INLINE = {"inlineData": {"data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}}


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def outcomes(response: Any) -> list[tuple[str, str, str | None]]:
    """Tier, outcome and reason of each attempt."""
    return [
        (attempt["tier"], attempt["outcome"], attempt["reason"])
        for attempt in response.response_json["tiered"]["attempts"]
    ]


def parts(response: Any) -> list[dict[str, Any]]:
    """The parts of the answer as they are stored."""
    return [part.to_dict() for message in response._messages_now() for part in message.parts]


def call_double(httpx_mock: HTTPXMock) -> None:
    """Have Gemini think and call `double`, and then say "Four"."""
    called = gemini.call("double", {"number": 2}, id="c-1", signature="c2lnbmVk")
    gemini.answer(httpx_mock, gemini.chunk(gemini.thought("Doubling.")), gemini.last(called))
    gemini.answer(httpx_mock, *gemini.says("Four"))


async def test_tool_loop(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A tool loop calls the tool and continues; tiers without tools are skipped on both turns."""
    call_double(httpx_mock)
    chain = ask.model.chain("2 * 2?", tools=[double], options={"complexity": 6})
    first, second = await ask.finish(chain)
    assert [call.arguments for call in first.tool_calls_or_raise()] == [{"number": 2}]
    assert second.text_or_raise() == "Four"
    for response in (first, second):
        assert outcomes(response) == [
            ("medium", "skipped", "can't do tools"),
            ("small", "skipped", "can't do tools"),
            ("cloud", "ok", None),
        ]
    assert toys.medium.prompts == toys.small.prompts == []


async def test_thought_signature(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """The second request of a tool loop returns the call's thought signature to Gemini."""
    call_double(httpx_mock)
    await ask.finish(ask.model.chain("2 * 2?", tools=[double], options={"complexity": 8}))
    first, second = gemini.sent(httpx_mock)
    declared = {"name": "double", "description": "Twice the number."}
    for body in (first, second):
        (declaration,) = body["tools"][0]["functionDeclarations"]
        assert declaration | declared == declaration
    called = {"name": "double", "args": {"number": 2}, "id": "c-1"}
    result = {"name": "double", "response": {"output": "4"}, "id": "c-1"}
    assert second["contents"] == [
        {"role": "user", "parts": [{"text": "2 * 2?"}]},
        {"role": "model", "parts": [{"function_call": called, "thoughtSignature": "c2lnbmVk"}]},
        {"role": "user", "parts": [{"function_response": result}]},
    ]


async def test_tool_loop_of_another_model(
    ask: Ask,
    toys: Toys,
    httpx_mock: HTTPXMock,
    logged: Callable[[], list[dict[str, Any]]],
    logs: Path,
) -> None:
    """A tool loop that a local model began goes on at Gemini; its calls get no real signature."""
    toys.small.tools = True
    toys.small.does = [llm.ToolCall("double", {"number": 2}, tool_call_id="c-1")]
    toys.small.then = [RuntimeError("it broke")]
    gemini.answer(httpx_mock, *gemini.says("Four"))
    chain = ask.model.chain("2 * 2?", tools=[double], options={"tier": "small"})
    assert (await ask.finish(chain))[-1].text_or_raise() == "Four"
    [body] = gemini.sent(httpx_mock)
    [call] = body["contents"][1]["parts"]
    assert call["thoughtSignature"] == "skip_thought_signature_validator"
    with closing(sqlite3.connect(logs)) as database:
        parts = database.execute("select payload from parts").fetchall()
    assert len(logged()) == 2
    assert "skip_thought" not in str(parts)


async def test_signature_of_text(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A signature that came with text is returned on the next turn of the conversation."""
    gemini.answer(httpx_mock, gemini.last(gemini.text("Hello", signature="c2lnbmVk")))
    gemini.answer(httpx_mock, *gemini.says("Bye"))
    conversation = ask.model.conversation()
    await ask("Say hello", to=conversation, complexity=8)
    await ask("Say bye", to=conversation, complexity=8)
    assert gemini.sent(httpx_mock)[1]["contents"][1] == {
        "role": "model",
        "parts": [{"text": "Hello", "thoughtSignature": "c2lnbmVk"}],
    }


async def test_tool_loop_is_logged(
    ask: Ask,
    httpx_mock: HTTPXMock,
    logs: Path,
    logged: Callable[[], list[dict[str, Any]]],
) -> None:
    """Each turn of a tool loop is one row of the same thread, and the log is consistent."""
    call_double(httpx_mock)
    await ask.finish(ask.model.chain("2 * 2?", tools=[double], options={"complexity": 8}))
    first, second = logged()
    assert first["thread_id"] == second["thread_id"]
    with closing(sqlite3.connect(logs)) as database:
        store = LogStore(sqlite_utils.Database(database))
        assert store.verify() == []
        messages = store.thread_messages(first["thread_id"])
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]


async def test_local_tools(ask: Ask, toys: Toys) -> None:
    """A local tier with tool support gets the prompt, and its calls are executed."""
    toys.medium.tools = True
    toys.medium.does = [
        StreamEvent(type="tool_call_name", chunk="double", tool_call_id="c-1"),
        StreamEvent(type="tool_call_args", chunk='{"number": 2}', tool_call_id="c-1"),
        llm.ToolCall("double", {"number": 2}, "c-1"),
        lambda: setattr(toys.medium, "does", ["Four"]),
    ]
    chain = ask.model.chain("2 * 2?", tools=[double], options={"complexity": 6})
    first, second = await ask.finish(chain)
    assert [part["type"] for part in parts(first)] == ["tool_call"]
    assert second.text_or_raise() == "Four"
    assert [result.output for result in toys.medium.prompts[1].tool_results] == ["4"]


async def test_tool_call_without_events(ask: Ask, toys: Toys) -> None:
    """A call that the model's plugin only adds to the response counts as an answer, too."""
    toys.medium.tools = True
    toys.medium.does = [llm.ToolCall("double", {"number": 2}, "c-1")]
    response = await ask("2 * 2?", tools=[double], complexity=6)
    assert outcomes(response) == [("medium", "ok", None)]
    assert [call.arguments for call in response.tool_calls_or_raise()] == [{"number": 2}]


class Dog(pydantic.BaseModel):
    """A dog."""

    name: str
    age: int


async def test_schema(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A schema goes to Gemini, and tiers without schema support are skipped."""
    gemini.answer(httpx_mock, *gemini.says('{"name": "Cleo", "age": 3}'))
    response = await ask("Invent a dog", schema=Dog, complexity=2)
    assert response.text_or_raise() == '{"name": "Cleo", "age": 3}'
    assert outcomes(response) == [
        ("small", "skipped", "can't do schemas"),
        ("medium", "skipped", "can't do schemas"),
        ("cloud", "ok", None),
    ]
    config = gemini.sent(httpx_mock)[0]["generationConfig"]
    assert config["response_mime_type"] == "application/json"
    assert list(config["response_schema"]["properties"]) == ["name", "age"]
    assert toys.small.prompts == []


async def test_attachment(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """An attachment goes to Gemini, on its own turn and on those that follow."""
    gemini.answer(httpx_mock, *gemini.says("A dot"))
    gemini.answer(httpx_mock, *gemini.says("Red"))
    conversation = ask.model.conversation()
    attachment = llm.Attachment(content=PNG)
    first = await ask("What?", to=conversation, attachments=[attachment], complexity=2)
    second = await ask("Which colour?", to=conversation)
    for response in (first, second):
        assert outcomes(response) == [
            ("small", "skipped", "can't read attachments"),
            ("medium", "skipped", "can't read attachments"),
            ("cloud", "ok", None),
        ]
    for body in gemini.sent(httpx_mock):
        assert body["contents"][0]["parts"] == [{"text": "What?"}, INLINE]
    assert toys.small.prompts == []


async def test_attachment_that_nobody_reads(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """With only local models allowed, an attachment that none of them accepts is an error."""
    with pytest.raises(AllTiersFailed, match="can't read attachments"):
        await ask("What?", attachments=[llm.Attachment(content=PNG)], local_only=True)
    assert not httpx_mock.get_requests()


async def test_attachment_that_is_gone(ask: Ask, httpx_mock: HTTPXMock, tmp_path: Path) -> None:
    """If the file of an earlier attachment is gone, no model can answer, and the error says so."""
    file = tmp_path / "dot.png"
    file.write_bytes(PNG)
    gemini.answer(httpx_mock, *gemini.says("A dot"))
    conversation = ask.model.conversation()
    attachment = llm.Attachment(path=str(file), type="image/png")
    await ask("What?", to=conversation, attachments=[attachment], complexity=8)
    file.unlink()
    with pytest.raises(AllTiersFailed, match=r"cloud .*dot\.png"):
        await ask("Which colour?", to=conversation)


async def test_reasoning(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Reasoning arrives as reasoning, and is not part of the text."""
    gemini.answer(
        httpx_mock,
        gemini.chunk(gemini.thought("They greet me.")),
        gemini.last(gemini.text("Hello")),
    )
    response = ask.model.prompt("Say hello", complexity=8)
    events = [(event.type, event.chunk) for event in await ask.events(response)]
    assert events == [("reasoning", "They greet me."), ("text", "Hello")]
    assert response.text_or_raise() == "Hello"
    assert [part["type"] for part in parts(response)] == ["reasoning", "text"]
    config = gemini.sent(httpx_mock)[0]["generationConfig"]
    assert config["thinkingConfig"] == {"includeThoughts": True}


async def test_hidden_reasoning(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """hide_reasoning reaches Gemini, which is not asked for its thoughts."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8, hide_reasoning=True)
    assert "generationConfig" not in gemini.sent(httpx_mock)[0]


async def test_server_side_tool(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A server-side tool of Gemini goes there, and tiers without it are skipped."""
    gemini.answer(httpx_mock, *gemini.says("Sunny"))
    tools = [llm_gemini.GoogleSearch()]
    response = await ask("The weather?", tools=tools, complexity=2)
    assert outcomes(response) == [
        ("small", "skipped", "has no server-side tool GoogleSearch"),
        ("medium", "skipped", "has no server-side tool GoogleSearch"),
        ("cloud", "ok", None),
    ]
    assert gemini.sent(httpx_mock)[0]["tools"] == [{"googleSearch": {}}]


async def test_grounding(
    ask: Ask, httpx_mock: HTTPXMock, logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """The sources of a grounded answer are kept with its text, also in the log."""
    grounding = {
        "webSearchQueries": ["weather"],
        "groundingSupports": [{"confidenceScores": [0.75], "groundingChunkIndices": [0]}],
    }
    gemini.answer(
        httpx_mock,
        gemini.chunk(gemini.text("Sun")),
        gemini.last(gemini.text("ny"), groundingMetadata=grounding),
    )
    tools = [llm_gemini.GoogleSearch()]
    response = await ask("The weather?", tools=tools, complexity=8)
    kept = {
        "type": "text",
        "text": "Sunny",
        "provider_metadata": {"gemini": {"groundingMetadata": grounding}},
    }
    assert parts(response) == [kept]
    (turn,) = logged()
    with closing(sqlite3.connect(logs)) as database:
        store = LogStore(sqlite_utils.Database(database))
        assert store.verify() == []
        (_, answer) = store.thread_messages(turn["thread_id"])
    assert [part.to_dict() for part in answer.parts] == [kept]


async def test_code_execution(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Code that Google runs is kept as a call and a result and sent back; it never runs here."""
    ran, result = gemini.code("print(2 * 2)"), gemini.code_result("4\n")
    gemini.answer(httpx_mock, gemini.chunk(ran, result), gemini.last(gemini.text("Four")))
    gemini.answer(httpx_mock, *gemini.says("Bye"))
    conversation = ask.model.conversation()
    tools = [llm_gemini.CodeExecution()]
    response = await ask("2 * 2?", to=conversation, tools=tools, complexity=8)
    await ask("Say bye", to=conversation, complexity=8)
    assert response.tool_calls_or_raise() == []
    assert [part["type"] for part in parts(response)] == ["tool_call", "tool_result", "text"]
    assert all(part["server_executed"] for part in parts(response)[:2])
    sent_back = gemini.sent(httpx_mock)[1]["contents"][1]["parts"]
    assert sent_back == [ran, result, {"text": "Four"}]
