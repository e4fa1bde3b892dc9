"""The messages of clients as llm's."""

from __future__ import annotations

from typing import Any

import llm
import pytest
from llm.parts import ToolCallPart

from llm_tiered.server import turns
from llm_tiered.server.failure import ApiError
from llm_tiered.server.turns import read

PNG = "data:image/png;base64,iVBORw0KGgo="
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
HELLO = {"role": "user", "content": "Hello"}


def parts(*content: Any) -> list[dict[str, Any]]:
    """One message of the user with a list of parts."""
    return [{"role": "user", "content": list(content)}]


def image(url: Any) -> dict[str, Any]:
    """A part with an image."""
    return {"type": "image_url", "image_url": {"url": url}}


def test_last_message() -> None:
    """The last message is what is asked; those before it are the history."""
    given = read(
        [
            {"role": "developer", "content": "Be brief", "name": None},
            HELLO,
            {"role": "assistant", "content": [{"type": "text", "text": "Hi"}], "refusal": None},
            *parts({"type": "text", "text": "Two"}, {"type": "text", "text": "lines"}),
        ]
    )
    assert given.history == [llm.system("Be brief"), llm.user("Hello"), llm.assistant("Hi")]
    assert given.text == "Two\nlines"
    assert given.ignored == set()


def test_images() -> None:
    """Images come with the message that they are in, from a data URL or an address."""
    given = read(
        [
            *parts(image(PNG), {"type": "text", "text": "What is it?"}),
            {"role": "assistant", "content": "A dog"},
            *parts({"type": "text", "text": "And this?"}, image("https://example.com/a.webp?b=1")),
        ]
    )
    [_, earlier] = given.history[0].parts
    assert earlier.attachment.type == "image/png"  # type: ignore[attr-defined]
    [now] = given.attachments
    assert (now.url, now.type) == ("https://example.com/a.webp?b=1", "image/webp")


def test_images_without_a_type() -> None:
    """Nobody is asked what an image is: that would tell its server of the prompt."""
    [given] = read(parts(image("http://example.com/image"))).attachments
    assert given.type == "image/jpeg"


def test_tool_results() -> None:
    """The results of one turn's tools are one message, with the tools' names."""
    other = CALL | {"id": "c2"}
    results = [{"role": "tool", "tool_call_id": id_, "content": id_} for id_ in ("c1", "c2")]
    calls = {**ASKED, "tool_calls": [CALL, other]}
    given = read([HELLO, calls, *results])
    assert [(result.name, result.output) for result in given.tool_results] == [
        ("add", "c1"),
        ("add", "c2"),
    ]
    assert given.history[1].parts[0] == ToolCallPart("add", {"a": 1}, "c1")
    assert given.text is None
    later = read([HELLO, calls, *results, HELLO])
    assert [message.role for message in later.history] == ["user", "assistant", "tool"]


def test_instructions_at_the_end() -> None:
    """Instructions after the user's message are no question."""
    given = read([HELLO, {"role": "system", "content": "Be brief"}])
    assert (given.history, given.text) == ([llm.system("Be brief")], "Hello")


def test_instructions_alone() -> None:
    """Instructions without a message are asked themselves."""
    assert read([{"role": "system", "content": "Say hello"}]).history == [llm.system("Say hello")]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("Hello", "messages"),
        ([], "messages"),
        (["Hello"], "messages[0]"),
        ([{"content": "Hello"}], "messages[0].role"),
        ([{"role": "function", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages"),
        ([{"role": "user", "content": " "}], "messages"),
        ([HELLO, {"role": "assistant", "content": "Hi"}], "messages"),
        (parts("Hello"), "messages[0].content[0]"),
        (parts({"type": "input_audio", "input_audio": {}}), "messages[0].content[0]"),
        (parts({"type": "text", "text": None}), "messages[0].content[0]"),
        (parts(image(None)), "messages[0].content[0]"),
        (parts(image("file:///etc/passwd")), "messages[0].content[0]"),
        (parts(image("data:image/png;base64,*")), "messages[0].content[0]"),
        (parts(image("data:,")), "messages[0].content[0]"),
        (parts(image("http://127.0.0.1/a.png")), "messages[0].content[0]"),
        (parts(image("http://169.254.169.254/a.png")), "messages[0].content[0]"),
        (parts(image("http://[::1]/a.png")), "messages[0].content[0]"),
        (parts(image("http://localhost:8000/a.png")), "messages[0].content[0]"),
        ([{"role": "system", "content": [image(PNG)]}], "messages[0].content"),
        (
            [HELLO, {"role": "tool", "tool_call_id": "c9", "content": "1"}],
            "messages[1].tool_call_id",
        ),
        ([HELLO, {**ASKED, "tool_calls": {}}, HELLO], "messages[1].tool_calls"),
        ([HELLO, {**ASKED, "tool_calls": [{}]}, HELLO], "messages[1].tool_calls[0]"),
        ([HELLO, {**ASKED, "tool_calls": [CALL | {"id": ""}]}], "messages[1].tool_calls[0].id"),
        ([HELLO, {"role": "assistant", "function_call": {"name": "x"}}, HELLO], "messages[1]"),
    ],
)
def test_mistakes(messages: Any, param: str) -> None:
    """A mistake is an error that names its place."""
    with pytest.raises(ApiError) as caught:
        read(messages)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("arguments", ["{", "[]", "3", 3])
def test_arguments_that_are_no_object(arguments: Any) -> None:
    """The arguments of a call are a JSON object."""
    call = CALL | {"function": {"name": "add", "arguments": arguments}}
    with pytest.raises(ApiError, match="not a JSON object"):
        read([HELLO, {**ASKED, "tool_calls": [call]}])


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a bound on how many messages are read."""
    monkeypatch.setattr(turns, "MOST_MESSAGES", 2)
    with pytest.raises(ApiError, match="3 messages are more than 2"):
        read([HELLO] * 3)
