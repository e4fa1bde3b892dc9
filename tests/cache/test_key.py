"""The cache key of a request: the same for the same request, different for any other."""

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
from tests.cache.fixed_request import FIXED, PNG, Search, fixed_key
from tests.cache.replies import INNER, reply, replying
from tests.make_log import empty_log
from tests.stand_in import AsyncStandIn

MODEL = replying()


def ask(prompt: str | None = "Hello", **fields: Any) -> llm.Prompt:
    """Return the prompt that the model receives."""
    return MODEL.prompt(prompt, **fields).prompt


def tool(name: str = "weather", **fields: Any) -> llm.Tool:
    """Return a tool."""
    return llm.Tool(name=name, **{"description": "Tells it.", "input_schema": {}} | fields)


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
    """Return the key of a request with these fields."""
    fields = {name: value for name, value in request.items() if name not in ("model", "options")}
    return cache_key(ask(**fields), request["model"], request["options"])


def seen(request: dict[str, Any]) -> str:
    """Return what a model sees of a request; options that are None are ignored."""
    options = {name: value for name, value in request["options"].items() if value is not None}
    tools = [vars(tool) for tool in request["tools"]]
    return repr(sorted((request | {"options": sorted(options.items()), "tools": tools}).items()))


@given(requests, st.data(), st.sampled_from(sorted(FIELDS)))
def test_every_field_counts(request: dict[str, Any], data: Any, field: str) -> None:
    """A change of any field changes the key; without a change it is the same."""
    other = request | {field: data.draw(FIELDS[field])}
    assert key_of(request) is not None
    assert (key_of(request) == key_of(other)) == (seen(request) == seen(other))


@given(words, words)
def test_places_of_texts(one: str, two: str) -> None:
    """The same words in other parts, messages or roles are a different request."""
    messages = [
        [llm.user(one + two)],
        [llm.user(one, two)],
        [llm.user(one), llm.user(two)],
        [llm.user(one), llm.assistant(two)],
        [llm.system(one), llm.user(two)],
    ]
    keys = {cache_key(ask(None, messages=each), INNER, {}) for each in messages}
    assert len(keys) == len(messages)


def test_the_same_everywhere() -> None:
    """The key is the same in other processes, whatever their hash seed or Python version."""
    assert fixed_key() == FIXED
    code = "from tests.cache.fixed_request import fixed_key; print(fixed_key())"
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == FIXED


def test_async() -> None:
    """The sync and the async model have the same key for the same request."""
    model: Any = AsyncStandIn("tiered")
    fields: dict[str, Any] = {"system": "Be brief.", "hide_reasoning": True}
    prompt = model.prompt("Hello", **fields).prompt
    assert cache_key(prompt, INNER, {}) == cache_key(ask(**fields), INNER, {})


def test_system_prompt() -> None:
    """A system prompt counts once, whether it is in the prompt or in an earlier message."""
    messages = [llm.system("Be brief."), llm.user("Hello")]
    nested = llm.Prompt("Hello", MODEL, system="Be brief.", messages=messages)
    assert cache_key(nested, INNER, {}) == cache_key(ask(system="Be brief."), INNER, {})
    assert cache_key(ask(None, messages=messages), INNER, {}) == cache_key(nested, INNER, {})
    other = llm.Prompt("Hello", MODEL, system="Be long.", messages=messages)
    assert cache_key(other, INNER, {}) != cache_key(nested, INNER, {})


def test_continued_conversation(logs: Path, tmp_path: Path) -> None:
    """A conversation loaded from the log has the same key as in the process that had it."""
    empty_log(logs)
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    conversation = replying().conversation()
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
    responses = [each.prompt("Sure?") for each in (conversation, loaded)]
    keys = [cache_key(response.prompt, INNER, {}) for response in responses]
    assert keys[0] == keys[1] is not None


def test_ids_of_tool_calls() -> None:
    """Other ids of tool calls are the same request, if they connect the same results."""

    def conversation(*ids: str) -> str | None:
        one, two, *results = ids
        calls = llm.assistant(
            *(llm.parts.ToolCallPart("weather", {"place": "Rome"}, id_) for id_ in (one, two))
        )
        answers = [ToolResultPart("weather", "Rain", id_) for id_ in results]
        messages = [llm.user("Hello"), calls, llm.parts.tool_message(*answers)]
        return cache_key(ask(None, messages=messages), INNER, {})

    assert conversation("a", "b", "a", "b") == conversation("x", "y", "x", "y")
    assert conversation("a", "b", "a", "b") != conversation("a", "b", "b", "a")
    assert conversation("a", "b", "a", "b") != conversation("a", "a", "a", "a")


def test_ignored_options() -> None:
    """Options that are None, the order of options and timeouts don't count."""
    plain = cache_key(ask(), INNER, {"top_p": 0.5, "seed": 1})
    assert plain == cache_key(
        ask(), INNER, {"seed": 1, "top_p": 0.5, "temperature": None, "timeout": 9}
    )


def test_order_of_fields() -> None:
    """Models fill in a schema in its order, so another order is a different request."""
    one, two = {"a": {"type": "string"}, "b": {"type": "string"}}, {"type": "object"}
    schema = two | {"properties": one}
    turned = two | {"properties": dict(reversed(one.items()))}
    assert cache_key(ask(schema=schema), INNER, {}) != cache_key(ask(schema=turned), INNER, {})
    tools = [[tool(input_schema=each)] for each in (schema, turned)]
    assert cache_key(ask(tools=tools[0]), INNER, {}) != cache_key(ask(tools=tools[1]), INNER, {})


def test_server_side_tools() -> None:
    """Server-side tools count with their configuration."""
    setups = [[], [Search()], [Search("de")], [Search("fr")], [llm.ServerSideTool({"x": 1})]]
    prompts = [llm.Prompt("Hello", MODEL, tools=setup) for setup in setups]
    keys = [cache_key(prompt, INNER, {}) for prompt in prompts]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_attachments_count_by_content(tmp_path: Path) -> None:
    """Attachments count by their bytes and type, not by where the bytes come from."""
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


def test_no_server_is_contacted(connections: list[Any]) -> None:
    """An attachment with only a URL counts by that; its type and content are not fetched."""
    attachments = [
        llm.Attachment(url="https://example.com/a.png"),
        llm.Attachment(url="https://example.com/b.png"),
        llm.Attachment(url="https://example.com/a.png", content=PNG),
    ]
    prompts = [ask(None, messages=[llm.user("See", attachment)]) for attachment in attachments]
    keys = [cache_key(prompt, INNER, {}) for prompt in prompts]
    assert None not in keys
    assert len(set(keys)) == 3
    assert connections == []


class Level(enum.Enum):
    """An option of a plugin that is an enum."""

    LOW = "low"
    HIGH = "high"


def test_enum_options() -> None:
    """An enum counts by its value."""
    low, high = (cache_key(ask(), INNER, {"level": level}) for level in Level)
    assert low == cache_key(ask(), INNER, {"level": "low"})
    assert low != high


def test_odd_characters() -> None:
    """Surrogates, control characters and markup are text like any other."""
    texts = ["\ud83d", "\ude00", "\ud83d\ude00", "\U0001f600", "\0", "<b>", "'; drop table x", " "]
    keys = [cache_key(ask(text), INNER, {}) for text in texts]
    assert None not in keys
    assert len(set(keys)) == len(keys)


class Broken(llm.parts.Part):
    """A part of a plugin that can't be serialised."""


@pytest.mark.parametrize(
    "fields",
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
def test_no_key(fields: dict[str, Any]) -> None:
    """A request with something that can't be read or serialised has no key."""
    assert cache_key(ask(**fields), INNER, {}) is None


def test_odd_options() -> None:
    """An option that can't be serialised has no key, whatever it is."""
    nested: list[Any] = []
    nested.append(nested)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), {1: 2, "x": 3}, nested, deep, b"bytes"):
        assert cache_key(ask(), INNER, {"x": value}) is None
