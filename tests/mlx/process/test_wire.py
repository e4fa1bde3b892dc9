"""Requests and events cross to another process as JSON, whole and unchanged."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import EngineError, PromptTooLong
from llm_tiered.mlx.engine import requests
from llm_tiered.mlx.engine.kv_disk import KvStore
from llm_tiered.mlx.engine.requests import (
    BadToolCall,
    Done,
    Failed,
    GenerationRequest,
    Loading,
    Prefill,
    Started,
    Waiting,
)
from llm_tiered.mlx.process import wire
from llm_tiered.mlx.tokens.decoding import Reasoning, Text
from llm_tiered.mlx.tokens.logprobs import TokenLogprob
from llm_tiered.mlx.tokens.tools import ToolCall

if TYPE_CHECKING:
    from llm_tiered.mlx.engine.requests import Event

TOOL = {"type": "function", "function": {"name": "now", "parameters": {"class": [None, 1.5]}}}
REQUEST = GenerationRequest(
    model="mlx/one",
    folder=Path("/models/one"),
    budget=10**9,
    chat=({"role": "user", "content": "Grüße \x00 💡"}, {"role": "tool", "content": ""}),
    max_tokens=5,
    sampling={"temperature": 0.5},
    seed=2**64 - 1,
    stop=("\n", "end"),
    logprobs=3,
    prompt_lookup=True,
    schema={"properties": {"event": {"type": ["string", "null"]}}},
    tools=(TOOL,),
    thinking=False,
    kv_bits=8,
    adapter=Path("/adapters/one"),
    draft=("mlx/two", Path("/models/two")),
    kv_store=KvStore(Path("/kv"), 10**6),
)
LIKELY = TokenLogprob((72, 105), -0.25, (TokenLogprob((72,), -1.5), TokenLogprob((), -2.0)))
EVENTS: list[Event] = [
    Waiting(2),
    Started(),
    Loading("mlx/one", 10**9),
    Prefill(1, 2),
    Text("Hi\n\u2028", (LIKELY,)),
    Reasoning("He greets."),
    ToolCall("now", {"zone": "UTC", "at": [1, {"event": "Text"}]}),
    BadToolCall("{", "not a call", "max_tokens", 1, 2, 3, 4),
    Done(
        *("stop", 9, 4, 2, 1.5, 5.0, 10**6, -0.5, -1, -2, "strict", "model", "context"),
        *(True, True, 1, 3, 2, 1),
    ),
]


def filled(value: Any) -> Any:
    """The request or event with values other than the default ones in fields added later."""
    others: dict[str, Any] = {
        field.name: not field.default if isinstance(field.default, bool) else 7
        for field in fields(value)
        if getattr(value, field.name) == field.default
    }
    return replace(value, **others)


def through_json(request: GenerationRequest) -> GenerationRequest:
    """The request as the engine gets it."""
    return wire.load_request(json.loads(json.dumps(wire.dump_request(request))))


def test_request() -> None:
    """A request arrives as it was sent, also one with nothing but what it needs."""
    assert through_json(REQUEST) == REQUEST
    assert through_json(filled(REQUEST)) == filled(REQUEST)
    plain = GenerationRequest("mlx/one", Path("/one"), 1, ({"role": "user", "content": ""},), 1)
    assert through_json(plain) == plain


def test_no_event_is_left_out_above() -> None:
    """The events above are of every class."""
    classes = {
        value
        for name, value in vars(requests).items()
        if is_dataclass(value) and name in f"{requests.Event} {requests.Progress}"
    }
    assert {type(event) for event in EVENTS} >= classes - {Failed}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_event(event: Event) -> None:
    """An event arrives as it was sent, on one line."""
    for each in (event, filled(event)):
        line = wire.dump_event(each)
        assert line.count(b"\n") == 1
        assert wire.load_event(line) == each


def test_failure() -> None:
    """An error arrives with its class, its message and its fix."""
    error = Failed(PromptTooLong("too long", fix="say less"))
    again: Any = wire.load_event(wire.dump_event(error))
    assert type(again.error) is PromptTooLong
    assert (again.error.message, again.error.fix) == ("too long", "say less")


def test_unknown_error() -> None:
    """An error of a class that is not one of ours is an error of the engine."""
    for name in ("SystemExit", "llm", "annotations", "Nobody"):
        line = {"event": "Failed", "error": {"class": name, "message": "no", "fix": None}}
        event: Any = wire.load_event(json.dumps(line).encode())
        assert type(event.error) is EngineError


def test_relative_folder() -> None:
    """The folder of a model is absolute, because the engine has another working directory."""
    request = GenerationRequest("mlx/one", Path("one"), 1, (), 1)
    assert through_json(request).folder == Path("one").absolute()


def test_heartbeat() -> None:
    """A heartbeat is no event."""
    assert wire.load_event(wire.HEARTBEAT) is None


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]x", b"1", b'"x"', b'{"event": "Nothing"}', b'{"event": "Path"}', b'{"x": 1}'],
)
def test_no_event(line: bytes) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        wire.load_event(line)


@pytest.mark.parametrize("data", [None, 1, [], {}, {"model": "mlx/one"}, {"chat": 1}])
def test_no_request(data: Any) -> None:
    """Something that is no request is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        wire.load_request(data)
