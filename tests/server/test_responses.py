"""OpenAI's Responses API: items in, items out, whole or in events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import StreamEvent

from llm_tiered.server.failure import ApiError
from llm_tiered.server.responses import to_chat

if TYPE_CHECKING:
    from tests.server.conftest import Client
    from tests.toys import Toys

TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
PNG = "data:image/png;base64,iVBORw0KGgo="


def events(client: Client, given: Any = "Hello", **body: Any) -> list[dict[str, Any]]:
    """The events of a stream, which are numbered and named twice."""
    response = client.respond(given, stream=True, **body)
    assert response.status_code == 200, response.text
    read = []
    for lines in response.text.strip().split("\n\n"):
        name, _, data = lines.removeprefix("event: ").partition("\ndata: ")
        read.append(json.loads(data))
        assert read[-1]["type"] == name
    assert [event["sequence_number"] for event in read] == [*range(len(read))]
    return read


def test_whole(client: Client, toys: Toys) -> None:
    """A whole response has its thoughts and its message as items, and its tokens."""
    toys.small.does = [StreamEvent(type="reasoning", chunk="hmm"), "small ", "answer"]
    response = client.respond(instructions="Be brief", max_output_tokens=9, complexity=None)
    body = response.json()
    assert (body["status"], body["object"], body["model"]) == (
        "completed",
        "response",
        "mlx/toy-small",
    )
    thoughts, message = body["output"]
    assert thoughts["content"] == [{"type": "reasoning_text", "text": "hmm"}]
    assert message["content"][0]["text"] == "small answer"
    assert body["usage"]["total_tokens"] == 7
    assert response.headers["x-tiered-model"] == "mlx/toy-small"
    prompt = toys.small.prompts[-1]
    assert prompt.messages == [llm.system("Be brief"), llm.user("Hello")]


def test_stream(client: Client, toys: Toys) -> None:
    """A stream begins each item, fills it, and ends with the whole response."""
    toys.small.does = [StreamEvent(type="reasoning", chunk="hmm"), "small ", "answer"]
    read = events(client)
    assert [event["type"].removeprefix("response.") for event in read] == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [event["output_index"] for event in read[2:-1]] == [0] * 6 + [1] * 7
    assert read[0]["response"]["output"] == []
    assert read[8]["item"]["content"] == []
    assert read[-1]["response"]["output"] == [read[7]["item"], read[14]["item"]]


def test_calls(client: Client, toys: Toys) -> None:
    """A call is an item of its own, in a stream with its arguments."""
    toys.small.tools = True
    toys.small.does = ["Let me see", llm.ToolCall("add", {"a": 1}, "c1")]
    message, call = client.respond(tools=[TOOL]).json()["output"]
    assert message["content"][0]["text"] == "Let me see"
    assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "add", '{"a": 1}')
    *_, added, delta, done, ended, completed = events(client, tools=[TOOL])
    assert added["item"] == {
        **call,
        "id": added["item"]["id"],
        "arguments": "",
        "status": "in_progress",
    }
    assert (delta["delta"], done["arguments"]) == ('{"a": 1}', '{"a": 1}')
    assert completed["response"]["output"][1] == ended["item"]


def cut_answers_off(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the limit of tokens end all answers of the small toy."""
    script = toys.small.script

    def cut_off(prompt: llm.Prompt, response: Any) -> Any:
        yield from script(prompt, response)
        response.response_json = {"finish_reason": "length"}

    monkeypatch.setattr(toys.small, "script", cut_off)


def test_cut_off(client: Client, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that the limit of tokens ended is incomplete, and so is its last item."""
    cut_answers_off(toys, monkeypatch)
    toys.small.does = [StreamEvent(type="reasoning", chunk="hmm"), "small "]
    last = events(client)[-1]
    assert last["type"] == "response.incomplete"
    response = last["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_items() -> None:
    """Items of all kinds are messages of a chat."""
    image = {"type": "input_image", "image_url": PNG, "detail": "auto"}
    chat = to_chat(
        {
            "model": "tiered",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Add"}, image]},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Let me see", "annotations": []}],
                },
                CALL,
                {**CALL, "call_id": "c2"},
                {"type": "function_call_output", "call_id": "c1", "output": "1"},
            ],
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
            "tools": [TOOL],
            "tool_choice": {"type": "function", "name": "add"},
            "truncation": "disabled",
            "include": [],
            "local_only": True,
        }
    ).body
    asked, said, result = chat["messages"]
    assert asked["content"][1] == {"type": "image_url", "image_url": {"url": PNG}}
    assert [call["id"] for call in said["tool_calls"]] == ["c1", "c2"]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": "1"}
    assert chat["response_format"]["json_schema"] == {"schema": {"type": "object"}}
    assert chat["tools"][0]["function"]["name"] == "add"
    assert chat["tool_choice"]["function"] == {"name": "add"}
    assert chat["local_only"] is True
    assert not {"truncation", "include", "text", "input"} & {*chat}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ["Hello"]}, "input[0]"),
        ({"instructions": 5}, "instructions"),
        ({"text": 5}, "text"),
        ({"include": [5]}, "include"),
        ({"input": [{"type": "code_interpreter_call", "id": "x"}]}, "input[0].type"),
        ({"store": "yes"}, "store"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": ["Hello"]}]}, "input[0].content[0]"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
    ],
)
def test_mistakes(body: dict[str, Any], param: str) -> None:
    """What can't be served in this form is an error that names the field."""
    with pytest.raises(ApiError) as caught:
        to_chat({"model": "tiered", "input": "Hello", **body})
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"given": []}, "input"),
        ({"given": [{"type": "reasoning"}]}, "input"),
        ({"given": [{"role": "user", "content": ""}]}, "input"),
        ({"given": [{"role": "user", "content": 5}], "instructions": "Hi"}, "input[0].content"),
        ({"given": [{"type": "function_call_output", "call_id": "x"}]}, "input[0].tool_call_id"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
    ],
)
def test_names_of_mistakes(client: Client, body: dict[str, Any], param: str) -> None:
    """What a chat completion would refuse is named as the client has it."""
    error = client.respond(**body)
    assert error.status_code == 400
    wrong = error.json()["error"]
    assert wrong["param"] == param
    assert "messages" not in wrong["message"]


def test_fields(client: Client) -> None:
    """Unknown fields are named here, too, and those about privacy are errors."""
    text = {"format": {"type": "text"}, "verbosity": "low"}
    response = client.respond(reasoning={"effort": "low"}, store=False, text=text)
    assert response.headers["x-tiered-ignored"] == "reasoning, text.verbosity"
    item = {"role": "user", "content": "Hello", "local_only": True}
    for wrong in (
        client.respond(localonly=True),
        client.respond([item]),
        client.respond(text={"private": True}),
    ):
        assert wrong.json()["error"]["code"] == "unknown_privacy_field"
    assert client.respond(tools=[{"type": "web_search"}]).status_code == 400
