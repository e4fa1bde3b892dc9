"""The address of a request: the same for the same request, another for any other."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import llm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm.cli import load_conversation
from llm.parts import StreamEvent, ToolResultPart

from llm_tiered.cache.key import cache_key
from tests.cache.replies import INNER, Replying, reply
from tests.make_log import empty_log

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
MODEL = Replying(inner=None)


class Search(llm.ServerSideTool):
    """Looks things up, in one country."""

    # A key says which class a tool is of: where this one stood when FIXED was made.
    __module__ = "tests.log.test_cache_key"

    name = "search"

    def __init__(self, country: str | None = None) -> None:
        self.country = country


def ask(prompt: str | None = "Hello", **said: Any) -> llm.Prompt:
    """Give the prompt that the model gets."""
    return MODEL.prompt(prompt, **said).prompt


def tool(name: str = "weather", **said: Any) -> llm.Tool:
    """Give a tool."""
    return llm.Tool(name=name, **{"description": "Tells it.", "input_schema": {}} | said)


words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=5)
numbers = st.floats(0, 2)
schemas = st.fixed_dictionaries({"type": st.just("object"), "title": words})
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "prompt": words,
    "system": words | st.none(),
    "schema": schemas | st.none(),
    "tools": st.lists(st.builds(tool, words, description=words, input_schema=schemas), max_size=2),
    "attachments": st.lists(
        st.builds(llm.Attachment, type=words, content=st.binary(min_size=1))
        | st.builds(llm.Attachment, url=words),
        max_size=2,
    ),
    "hide_reasoning": st.booleans(),
    "model": words,
    "options": st.dictionaries(words, numbers | words | st.booleans() | st.none(), max_size=2),
}
requests = st.fixed_dictionaries(FIELDS)


def key_of(request: dict[str, Any]) -> str | None:
    """Give the key of a request with these fields."""
    said = {name: value for name, value in request.items() if name not in ("model", "options")}
    return cache_key(ask(**said), request["model"], request["options"])


def seen(request: dict[str, Any]) -> str:
    """Give what a model sees of a request; options that are not set don't count."""
    options = {name: value for name, value in request["options"].items() if value is not None}
    tools = [vars(tool) for tool in request["tools"]]
    # The kind of what stands at an address is told by the address.
    return repr(sorted((request | {"options": sorted(options.items()), "tools": tools}).items()))


@given(requests, st.data(), st.sampled_from(sorted(FIELDS)))
def test_one_field_makes_another_key(request: dict[str, Any], data: Any, field: str) -> None:
    """Whatever is changed, the key is another; without a change it is the same."""
    other = request | {field: data.draw(FIELDS[field])}
    assert key_of(request) is not None
    assert (key_of(request) == key_of(other)) == (seen(request) == seen(other))


@given(words, words)
def test_where_a_text_stands(one: str, two: str) -> None:
    """The same words in other parts, messages or roles are another request."""
    messages = [
        [llm.user(one + two)],
        [llm.user(one, two)],
        [llm.user(one), llm.user(two)],
        [llm.user(one), llm.assistant(two)],
        [llm.system(one), llm.user(two)],
    ]
    keys = {cache_key(ask(None, messages=said), INNER, {}) for said in messages}
    assert len(keys) == len(messages)


FIXED = "4f5c2d82e9c4380cd6bf336800a4ea04c86438a81ca942cced6165a52f77c530"


def fixed() -> str | None:
    """Give the key of a request that has everything."""

    def weather() -> None:
        """Tell the weather.

        For a place.
        """

    prompt = llm.Prompt(
        "Wie wird's?\N{SNOWMAN}",
        MODEL,
        system="Be brief.",
        schema={"type": "object", "properties": {"b": {"type": "string"}, "a": {}}},
        tools=[tool(description=weather.__doc__, input_schema={"type": "object"}), Search("de")],
        attachments=[llm.Attachment(content=PNG), llm.Attachment(url="https://example.com/a.png")],
    )
    return cache_key(prompt, INNER, {"temperature": 0.1, "stop": ["x"], "seed": 1 << 63})


def test_the_same_everywhere() -> None:
    """Processes with other hashes, and other Pythons, have the same key for the same request."""
    assert fixed() == FIXED
    code = "from tests.cache.test_key import fixed; print(fixed())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == FIXED


def test_async_is_the_same() -> None:
    """A request is the same whichever of the two models is asked."""

    class Async(llm.AsyncModel):
        model_id = "tiered"

        async def execute(self, *_: Any) -> Any:
            yield ""

    asked: Any = Async()
    said: dict[str, Any] = {"system": "Be brief.", "hide_reasoning": True}
    assert cache_key(asked.prompt("Hello", **said).prompt, INNER, {}) == cache_key(
        ask(**said), INNER, {}
    )


def test_a_nested_request_is_the_same() -> None:
    """A system prompt counts once, whether the prompt says it or an earlier message does."""
    messages = [llm.system("Be brief."), llm.user("Hello")]
    nested = llm.Prompt("Hello", MODEL, system="Be brief.", messages=messages)
    assert cache_key(nested, INNER, {}) == cache_key(ask(system="Be brief."), INNER, {})
    assert cache_key(ask(None, messages=messages), INNER, {}) == cache_key(nested, INNER, {})
    other = llm.Prompt("Hello", MODEL, system="Be long.", messages=messages)
    assert cache_key(other, INNER, {}) != cache_key(nested, INNER, {})


def test_a_conversation_that_is_taken_up(logs: Path, tmp_path: Path) -> None:
    """What another process loads from the log makes the same key as where it was said."""
    empty_log(logs)
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    conversation = Replying(inner=None).conversation()
    signed = {"gemini": {"thoughtSignature": "abc", "scores": [0.5, 1]}}
    first = reply(
        logs,
        StreamEvent("reasoning", "", redacted=True),
        StreamEvent("reasoning", "Hmm.", provider_metadata={"b": 1, "a": None}),
        StreamEvent("text", "Let's see.", provider_metadata=signed),
        llm.ToolCall("weather", {"place": "Rome", "at": 2.0}),
        to=conversation,
        system="Be brief.",
        fragments=["A long text. " * 10],
        attachments=[
            llm.Attachment(path=str(path)),
            llm.Attachment(content=b"text"),
            llm.Attachment(type="image/png", url="https://example.com/a.png"),
        ],
        tools=[tool()],
    )
    call = first.tool_calls()[0]
    result = llm.ToolResult("weather", "Rain", [llm.Attachment(content=PNG)], call.tool_call_id)
    reply(logs, "Rain.", prompt=None, to=conversation, tool_results=[result], tools=[tool()])
    loaded: Any = load_conversation(conversation.id)
    assert loaded.responses == []
    loaded.model = conversation.model
    asked = [one.prompt("Sure?") for one in (conversation, loaded)]
    one, two = (cache_key(response.prompt, INNER, {}) for response in asked)
    assert one == two is not None


def test_ids_of_tool_calls() -> None:
    """Ids that were made up anew are the same request, as long as they join the same things."""

    def conversation(*ids: str) -> str | None:
        one, two, *results = ids
        calls = llm.assistant(
            *(llm.parts.ToolCallPart("weather", {"place": "Rome"}, id_) for id_ in (one, two))
        )
        answers = [ToolResultPart("weather", "Rain", id_) for id_ in results]
        said = [llm.user("Hello"), calls, llm.parts.tool_message(*answers)]
        return cache_key(ask(None, messages=said), INNER, {})

    assert conversation("a", "b", "a", "b") == conversation("x", "y", "x", "y")
    assert conversation("a", "b", "a", "b") != conversation("a", "b", "b", "a")
    assert conversation("a", "b", "a", "b") != conversation("a", "a", "a", "a")


def test_what_does_not_shape_the_answer() -> None:
    """Options without a value, their order and the patience of the caller don't count."""
    plain = cache_key(ask(), INNER, {"top_p": 0.5, "seed": 1})
    assert plain == cache_key(
        ask(), INNER, {"seed": 1, "top_p": 0.5, "temperature": None, "timeout": 9}
    )


def test_order_of_fields() -> None:
    """A schema's fields are filled in one after the other: another order is another request."""
    one, two = {"a": {"type": "string"}, "b": {"type": "string"}}, {"type": "object"}
    schema = two | {"properties": one}
    turned = two | {"properties": dict(reversed(one.items()))}
    assert cache_key(ask(schema=schema), INNER, {}) != cache_key(ask(schema=turned), INNER, {})
    tools = [[tool(input_schema=said)] for said in (schema, turned)]
    assert cache_key(ask(tools=tools[0]), INNER, {}) != cache_key(ask(tools=tools[1]), INNER, {})


def test_server_side_tools() -> None:
    """Tools of the service count with what they were set up with."""
    setups = [[], [Search()], [Search("de")], [Search("fr")], [llm.ServerSideTool({"x": 1})]]
    prompts = [llm.Prompt("Hello", MODEL, tools=setup) for setup in setups]
    keys = [cache_key(prompt, INNER, {}) for prompt in prompts]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_attachments_count_by_content(tmp_path: Path) -> None:
    """It does not matter where bytes come from; other bytes or another type do."""
    one, two, three = (tmp_path / name for name in ("one.png", "two.png", "three.png"))
    for path, content in ((one, PNG), (two, PNG), (three, PNG + b"more")):
        path.write_bytes(content)
    attachments = [
        llm.Attachment(path=str(one)),
        llm.Attachment(path=str(two)),
        llm.Attachment(content=PNG),
        llm.Attachment(type="image/png", content=PNG),
        llm.Attachment(path=str(three)),
        llm.Attachment(type="text/plain", content=PNG),
    ]
    keys = [cache_key(ask(attachments=[attachment]), INNER, {}) for attachment in attachments]
    assert len(set(keys[:4])) == 1
    assert len(set(keys)) == 3


def test_no_server_is_asked(connections: list[Any]) -> None:
    """An attachment with an address counts by that: nobody is asked for its type or content."""
    attachments = [
        llm.Attachment(url="https://example.com/a.png"),
        llm.Attachment(url="https://example.com/b.png"),
        llm.Attachment(url="https://example.com/a.png", content=PNG),
    ]
    said = [[llm.user("See", attachment)] for attachment in attachments]
    keys = [cache_key(ask(None, messages=messages), INNER, {}) for messages in said]
    assert None not in keys
    assert len(set(keys)) == 3
    assert connections == []


class Level(enum.Enum):
    """An option of a plugin."""

    LOW = "low"
    HIGH = "high"


def test_options_of_plugins() -> None:
    """A choice of a plugin counts by its value."""
    low, high = (cache_key(ask(), INNER, {"level": level}) for level in Level)
    assert low == cache_key(ask(), INNER, {"level": "low"})
    assert low != high


def test_odd_characters() -> None:
    """Halves of characters, control characters and markup are text like any other."""
    texts = ["\ud83d", "\ude00", "\ud83d\ude00", "\U0001f600", "\0", "<b>", "'; drop table x", " "]
    keys = [cache_key(ask(text), INNER, {}) for text in texts]
    assert None not in keys
    assert len(set(keys)) == len(keys)


class Broken(llm.parts.Part):
    """A part of a plugin that does not know how it is written down."""


@pytest.mark.parametrize(
    "said",
    [
        {"attachments": [llm.Attachment(path="/no/such/file.png", type="image/png")]},
        {"attachments": [llm.Attachment(path="/", type="image/png")]},
        {"attachments": [llm.Attachment(path="a\0b", type="image/png")]},
        {"messages": [llm.user(Broken())]},
        {"schema": {"type": object()}},
        {"tools": [tool(input_schema={"type": {1, 2}})]},
    ],
    ids=["missing", "folder", "no path", "part", "schema", "tool"],
)
def test_what_can_not_be_told_apart(said: dict[str, Any]) -> None:
    """A request with something that can't be read or written down has no key."""
    assert cache_key(ask(**said), INNER, {}) is None


def test_odd_options() -> None:
    """An option that can't be written down has no key, whatever it is."""
    nested: list[Any] = []
    nested.append(nested)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), {1: 2, "x": 3}, nested, deep, b"bytes"):
        assert cache_key(ask(), INNER, {"x": value}) is None
