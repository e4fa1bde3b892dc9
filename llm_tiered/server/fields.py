"""The body and the headers of a request for a chat completion → what is asked, validated."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import llm
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from .. import json_schema, passage
from ..config.terms import strictest
from . import privacy, turns
from .failure import bad_request

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ..config.terms import Kept
    from .turns import Turns

PREFIX = "x-tiered-"

# Alternatives to each token, as in OpenAI's API.
MOST_ALTERNATIVES = 20

# Each is looked for in every piece of the answer. OpenAI takes four.
MOST_STOPS = 64

# Other headers that may be about privacy, written together.
_PERHAPS_OURS = re.compile(r"(localonly|private)$|tiered")

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")

# What clients send by default, with the values that ask for nothing.
_NOTHING: dict[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "parallel_tool_calls": True,
    "modalities": ["text"],
    "store": False,
    "metadata": {},
}


class ChatBody(BaseModel):
    """The fields of OpenAI's API that are not options of a model; null is the same as nothing."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    messages: Any = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Chat(NamedTuple):
    """A request for a chat completion.

    `previous` are the messages of the response that it continues, with that id, as they are in
    llm's log. An answer that is not to be stored can't be continued. `names` are what the client
    calls some of the fields, and `places` where it has each of the messages.
    """

    body: Mapping[str, Any]
    previous: Sequence[llm.Message] = ()
    previous_id: str | None = None
    store: bool = True
    names: Mapping[str, str] = {}
    places: Sequence[str] = ()

    def name(self, field: str) -> str:
        """Return what the client calls a field."""
        return self.names.get(field, field)


@dataclass
class Asked:
    """What a client asks for. `options` are those of the model, `stop` also applies to all others.

    With `must_call`, an answer without a call of a tool is a failure.
    """

    model: str
    turns: Turns
    options: dict[str, Any]
    kept: Kept | None
    stream: bool
    include_usage: bool
    stop: list[str]
    schema: dict[str, Any] | None = None
    tools: list[llm.Tool] = field(default_factory=list)
    must_call: bool = False
    ignored: list[str] = field(default_factory=list)


def read(chat: Chat, headers: Iterable[tuple[str, str]], known: Collection[str]) -> Asked:
    """Return what is asked; `known` are the options of the model. Raises ApiError."""
    try:
        given = ChatBody.model_validate(chat.body)
    except ValidationError as error:
        problem = error.errors()[0]
        name = chat.name(str(problem["loc"][0]))
        raise bad_request(f"{name}: {problem['msg']}", name) from None
    if given.n not in (None, 1):
        raise bad_request("n: one answer is given to a request, so n must be 1", "n")
    privacy.check("stream_options", given.stream_options)
    options, ignored, kept = _others(given.model_extra or {}, headers, known)
    read_turns = turns.read(given.messages, chat.name("messages"), chat.places)
    limit = given.max_completion_tokens
    limit = given.max_tokens if limit is None else limit
    stop = [given.stop] if isinstance(given.stop, str) else given.stop or []
    if not all(stop):
        raise bad_request("stop: an empty text ends nothing", "stop")
    if len(stop) > MOST_STOPS:
        raise bad_request(f"stop: {len(stop)} texts are more than {MOST_STOPS}", "stop", "too_many")
    options |= {"max_tokens": limit} if limit is not None else {}
    options |= {"stop": stop} if stop and "stop" in known else {}
    likely = _logprobs(given)
    ignored |= likely.keys() - known
    options |= {name: value for name, value in likely.items() if name in known}
    tools, must_call = _tools(given)
    return Asked(
        model=given.model,
        turns=read_turns,
        options=options,
        kept=kept,
        stream=bool(given.stream),
        include_usage=(given.stream_options or {}).get("include_usage") is True,
        stop=stop,
        schema=_schema(given.response_format, chat.name("response_format")),
        tools=tools,
        must_call=must_call,
        ignored=sorted(ignored | read_turns.ignored),
    )


def _others(
    more: Mapping[str, Any], headers: Iterable[tuple[str, str]], known: Collection[str]
) -> tuple[dict[str, Any], set[str], Kept | None]:
    """Return the options among other fields, the names without a meaning, and where to stay.

    The body beats the headers, but either of them can keep a prompt on this machine, or the user's.
    """
    options: dict[str, Any] = {}
    ignored = set()
    kept: Kept | None = None
    for name, value in more.items():
        if name in privacy.FIELDS:
            kept = strictest(kept, _kept(name, value))
        elif name in known and value is not None:
            options[name] = value
        else:
            privacy.check(name, value)
            if value is not None and _NOTHING.get(name, ...) != value:
                ignored.add(name)
    for name, value in _from_headers(headers):
        if name in privacy.FIELDS:
            kept = strictest(kept, _kept(name, value))
        elif name in known:
            options.setdefault(name, value)
        else:
            privacy.check(name, value)
            ignored.add(PREFIX + name)
    return options, ignored, kept


def _from_headers(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Yield the fields among the headers. Raises ApiError if another one is about privacy."""
    for header, value in headers:
        name = header.lower().removeprefix(PREFIX).replace("-", "_")
        if header.lower() == passage.HEADER:
            continue
        if header.lower().startswith(PREFIX):
            yield name, value
        elif name.startswith("x_") and _PERHAPS_OURS.search(name.replace("_", "")):
            privacy.check(name)


def _kept(name: str, value: Any) -> Kept | None:
    """Where a field about privacy says to stay. Raises ApiError if it says neither yes nor no."""
    if value is None:
        return None
    try:
        return privacy.FIELDS[name] if TypeAdapter(bool).validate_python(value) else None
    except ValidationError:
        raise bad_request(f"{name}: expected true or false", name, "invalid_privacy") from None


def _logprobs(given: ChatBody) -> dict[str, int]:
    """Return the option for the log-probabilities of tokens: the number of alternatives to each."""
    number = given.top_logprobs or 0
    if not 0 <= number <= MOST_ALTERNATIVES:
        message = f"top_logprobs: expected a number from 0 to {MOST_ALTERNATIVES}"
        raise bad_request(message, "top_logprobs")
    if number and not given.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true", "top_logprobs")
    return {"logprobs": number} if given.logprobs else {}


def _schema(form: Mapping[str, Any] | None, place: str) -> dict[str, Any] | None:
    kind = form.get("type") if form is not None else "text"
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if form is None or kind != "json_schema":
        raise bad_request(f"{place}.type must be text, json_object or json_schema", f"{place}.type")
    named = form.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict) or not schema:
        raise bad_request(f"{place}.json_schema has no schema", f"{place}.json_schema")
    return _checked(schema, f"{place}.json_schema.schema")


def _checked(schema: dict[str, Any], place: str) -> dict[str, Any]:
    try:
        json_schema.check(schema)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"{place}: {error}", place, "invalid_schema") from None
    return schema


def _tools(given: ChatBody) -> tuple[list[llm.Tool], bool]:
    """Return the tools that may be called, and whether one of them has to be."""
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(given.tools or [])]
    names = [tool.name for tool in tools]
    if len({*names}) < len(names):
        raise bad_request("tools: two have the same name", "tools")
    choice = given.tool_choice
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if choice.get("type") != "function" or name not in names:
            raise bad_request("tool_choice names none of the tools", "tool_choice")
        return [tool for tool in tools if tool.name == name], True
    if choice == "required":
        if not tools:
            raise bad_request("tool_choice is required, but there are no tools", "tool_choice")
        return tools, True
    if choice not in (None, "auto", "none"):
        raise bad_request("tool_choice: expected auto, none, required or a tool", "tool_choice")
    return [] if choice == "none" else tools, False


def _tool(tool: Mapping[str, Any], place: str) -> llm.Tool:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise bad_request(f"{place} must be a function", place)
    name, schema = function.get("name"), function.get("parameters")
    description = function.get("description")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise bad_request(f"{place}.function.name must be letters, digits, - and _", place)
    if not isinstance(schema, (dict, type(None))) or not isinstance(description, (str, type(None))):
        raise bad_request(f"{place}.function has a wrong type", place)
    _checked(schema or {}, f"{place}.function.parameters")
    return llm.Tool(name, description, schema or {"type": "object", "properties": {}})
