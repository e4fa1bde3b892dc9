"""Responses that the log has: clients continue them by their ids, and read them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import StreamEvent

from tests import gemini
from tests.server.test_log import turns
from tests.server.test_responses import TOOL, cut_answers_off, events

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.server.conftest import Client
    from tests.toys import Toys

pytestmark = pytest.mark.httpx_mock(should_mock=lambda request: request.url.host != "127.0.0.1")

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}


def error(client: Client, **body: Any) -> tuple[int, str, str]:
    """The status, code and param of an error."""
    response = client.respond(**body)
    wrong = response.json()["error"]
    return response.status_code, wrong["code"], wrong["param"]


def test_continued(client: Client, toys: Toys, logged: Path) -> None:
    """A response continues the one that it names, with all messages, in the same conversation."""
    first = client.respond("One").json()
    second = client.respond("Two", previous_response_id=first["id"]).json()
    client.respond("Three", previous_response_id=second["id"])
    said = llm.assistant("small answer")
    assert toys.small.prompts[-1].messages == [
        *(llm.user("One"), said, llm.user("Two"), said),
        llm.user("Three"),
    ]
    assert second["previous_response_id"] == first["id"]
    assert len({turn["thread_id"] for turn in turns(logged)}) == 1


def test_instructions(client: Client, toys: Toys, logged: Path) -> None:
    """Instructions hold until there are others, which take their place."""
    first = client.respond("One", instructions="Be brief").json()["id"]
    client.respond("Two", previous_response_id=first)
    assert toys.small.prompts[-1].messages[0] == llm.system("Be brief")
    client.respond("Two", previous_response_id=first, instructions="Be kind")
    system, *messages = toys.small.prompts[-1].messages
    assert system == llm.system("Be kind")
    assert messages == [llm.user("One"), llm.assistant("small answer"), llm.user("Two")]
    assert len({turn["thread_id"] for turn in turns(logged)}) == 1


@pytest.mark.parametrize("instructions", [None, "Be kind"])
def test_private(client: Client, toys: Toys, logged: Path, instructions: str | None) -> None:
    """What continues a private response is private."""
    first = client.respond("One", model="tiered/local", instructions="Be brief").json()["id"]
    response = client.respond(
        "Two", model="tiered/cloud", previous_response_id=first, instructions=instructions
    )
    assert response.json()["model"] == "mlx/toy-medium"
    assert "nothing may leave this machine" in response.headers["x-tiered-reason"]


def test_tool_result(client: Client, toys: Toys, logged: Path) -> None:
    """The result of a call is enough: the call is in the log."""
    toys.small.tools = True
    toys.small.does = ["Let me see", llm.ToolCall("add", {"a": 1}, "c1")]
    toys.small.then = ["2"]
    first = client.respond(tools=[TOOL]).json()
    result = {"type": "function_call_output", "call_id": "c1", "output": "2"}
    second = client.respond([result], tools=[TOOL], previous_response_id=first["id"])
    assert second.json()["output"][0]["content"][0]["text"] == "2"
    [found] = toys.small.prompts[-1].tool_results
    assert (found.name, found.output, found.tool_call_id) == ("add", "2", "c1")
    wrong = [{**result, "call_id": "c2"}]
    assert client.respond(wrong, previous_response_id=first["id"]).status_code == 400


def test_item_references(client: Client, toys: Toys, logged: Path) -> None:
    """An item may be named by its id in place of its content."""
    toys.small.tools = True
    thought = StreamEvent(type="reasoning", chunk="hm")
    toys.small.does = [thought, "Let me see", llm.ToolCall("add", {"a": 1}, "c1")]
    output = client.respond(tools=[TOOL]).json()["output"]
    references = [{"type": "item_reference", "id": item["id"]} for item in output]
    result = {"type": "function_call_output", "call_id": "c1", "output": "2"}
    asked = [{"role": "user", "content": "Hello"}, *references, result]
    assert client.respond(asked, tools=[TOOL]).status_code == 200
    call = llm.parts.ToolCallPart("add", {"a": 1}, "c1")
    assert toys.small.prompts[-1].messages[1] == llm.assistant("Let me see", call)
    assert len({turn["thread_id"] for turn in turns(logged)}) == 1
    unknown = {"type": "item_reference", "id": output[0]["id"].rpartition("_")[0] + "_9"}
    assert error(client, given=[unknown]) == (404, "not_found", "input[0].id")


def test_read_again(client: Client, toys: Toys, logged: Path) -> None:
    """A response can be read again, whether it came whole or in a stream."""
    toys.small.tools = True
    thought = StreamEvent(type="reasoning", chunk="hm")
    toys.small.does = [thought, "Let me ", "see", llm.ToolCall("add", {"a": 1}, "c1")]
    whole = client.respond(tools=[TOOL]).json()
    streamed = events(client, tools=[TOOL])[-1]["response"]
    for given in (whole, streamed):
        again = client.http.get(f"/v1/responses/{given['id']}").json()
        assert again == given | {"created_at": again["created_at"]}
        assert abs(again["created_at"] - given["created_at"]) <= 1
    streamed = client.http.get(f"/v1/responses/{whole['id']}?stream=true")
    assert (streamed.status_code, streamed.json()["error"]["param"]) == (400, "stream")


def test_cut_off(client: Client, toys: Toys, logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that was cut off is incomplete whenever it is read."""
    cut_answers_off(toys, monkeypatch)
    given = client.respond().json()
    again = client.http.get(f"/v1/responses/{given['id']}").json()
    assert again["output"] == given["output"]
    assert again["output"][-1]["status"] == again["status"] == "incomplete"


@pytest.mark.parametrize("store", [False, None])
def test_not_stored(client: Client, logged: Path, user_path: Path, store: bool | None) -> None:
    """With store: false, or where logging is off, there is nothing to continue."""
    if store is None:
        (user_path / "logs-off").touch()
    first = client.respond(store=store).json()
    assert first["store"] is False
    expected = (400, "previous_response_not_found", "previous_response_id")
    assert error(client, previous_response_id=first["id"]) == expected
    assert client.http.get(f"/v1/responses/{first['id']}").status_code == 404


@pytest.mark.parametrize("id_", [3, "x", "resp_1", "resp_00000000000000000000000000"])
def test_unknown(client: Client, logged: Path, id_: Any) -> None:
    """An id that the log does not have is an error that names the field."""
    status, _, param = error(client, previous_response_id=id_)
    assert (status, param) == (400, "previous_response_id")
    assert client.http.get(f"/v1/responses/{id_}").status_code == 404


def test_locked(client: Client, logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While answers wait to be written to the log, clients are asked to come again."""
    monkeypatch.setattr("llm_tiered.log.writer._BACKLOG", [None])
    response = client.respond(previous_response_id="resp_00000000000000000000000000")
    assert response.json()["error"]["code"] == "log_unavailable"
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_image(client: Client, logged: Path, httpx_mock: HTTPXMock) -> None:
    """Images of earlier messages are sent again."""
    gemini.answer(httpx_mock, *gemini.says("A dog"))
    gemini.answer(httpx_mock, *gemini.says("Rex"))
    content = [{"type": "input_text", "text": "What is it?"}, IMAGE]
    first = client.respond([{"role": "user", "content": content}], model="tiered/cloud").json()
    second = client.respond("Name?", model="tiered/cloud", previous_response_id=first["id"])
    assert second.json()["output"][-1]["content"][0]["text"] == "Rex"
    before, said, asked = gemini.sent(httpx_mock)[-1]["contents"]
    assert any("inlineData" in part for part in before["parts"])
    assert (said["role"], asked["parts"]) == ("model", [{"text": "Name?"}])
