"""Requests and events are plain data that could cross to another process."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from llm_tiered.errors import PromptTooLong
from llm_tiered.mlx.engine.kv_disk import KvStore
from llm_tiered.mlx.engine.requests import BadToolCall, Done, Failed, GenerationRequest, Prefill
from llm_tiered.mlx.tokens.decoding import Reasoning, Text
from llm_tiered.mlx.tokens.tools import ToolCall

REQUEST = GenerationRequest(
    model="mlx/one",
    folder=Path("/models/one"),
    budget=10**9,
    chat=({"role": "user", "content": "Hello"},),
    max_tokens=5,
    sampling={"temperature": 0.5},
    stop=("\n",),
    schema={"type": "string"},
    tools=({"type": "function", "function": {"name": "now"}},),
    adapter=Path("/adapters/one"),
    draft=("mlx/two", Path("/models/two")),
    kv_store=KvStore(Path("/kv"), 10**6),
)
EVENTS = [
    Prefill(1, 2),
    Text("Hi"),
    Reasoning("He greets."),
    ToolCall("now", {"zone": "UTC"}),
    BadToolCall("{", "this is not a valid tool call"),
    Done("stop", 9, 4, 2, 10.0, 5.0, 10**6, -0.5, -1.0),
]


@pytest.mark.parametrize("value", [REQUEST, *EVENTS], ids=lambda value: type(value).__name__)
def test_plain_data(value: Any) -> None:
    """Pickling changes neither a request nor an event."""
    assert pickle.loads(pickle.dumps(value)) == value


def test_failure_is_plain_data() -> None:
    """Pickling an error keeps its class, its message and its fix."""
    error = pickle.loads(pickle.dumps(Failed(PromptTooLong("too long", fix="say less")))).error
    assert (type(error), error.message, error.fix) == (PromptTooLong, "too long", "say less")
    assert str(error) == "too long (say less)"


def test_request_to_the_draft_model() -> None:
    """The draft model gets the same request, without the adapter of the main model."""
    drafting = REQUEST.draft_request
    assert drafting
    assert (drafting.model, drafting.folder) == REQUEST.draft
    assert (drafting.adapter, drafting.draft, drafting.draft_request) == (None, None, None)
    assert (drafting.chat, drafting.budget) == (REQUEST.chat, REQUEST.budget)
