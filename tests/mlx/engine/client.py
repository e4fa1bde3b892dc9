"""A client of the engine: submits requests, and collects their events."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from llm_tiered.mlx.engine.engine import ENGINE, Engine
from llm_tiered.mlx.engine.requests import (
    PROGRESS,
    CancelToken,
    Done,
    Event,
    Failed,
    GenerationRequest,
)
from llm_tiered.mlx.tokens.decoding import Reasoning, Text
from tests.mlx.models import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLENTY = 10**9  # bytes of memory: more than these models need


class Answer(NamedTuple):
    """The text of an answer, and its final event."""

    text: str
    done: Done

    def matches(self, other: Answer) -> bool:
        """Return whether both have the same tokens, and these were equally likely."""
        ours, theirs = self.done, other.done
        return (
            self.text == other.text
            and ours.generation_tokens == theirs.generation_tokens
            and ours.mean_logprob == pytest.approx(theirs.mean_logprob, abs=1e-3)
            and ours.lowest_logprob == pytest.approx(theirs.lowest_logprob, abs=1e-3)
        )


def make_request(folder: Path, *turns: str, **fields: Any) -> GenerationRequest:
    """Return a request to the model in a folder, at temperature 0 unless the fields differ.

    The turns are the user's and the assistant's, in turn.
    """
    roles = ("user", "assistant")
    chat = tuple({"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns))
    defaults: dict[str, Any] = {
        "model": folder.name,
        "budget": PLENTY,
        "max_tokens": 10,
        "sampling": {"temperature": 0.0},
    }
    return GenerationRequest(folder=folder, chat=chat, **(defaults | fields))


class Call:
    """A request to the engine, and its events. `on_event` is called on the worker's thread."""

    def __init__(self, request: GenerationRequest, engine: Engine = ENGINE) -> None:
        self.request = request
        self.cancel_token = CancelToken()
        self.on_event: Callable[[Event], None] = lambda event: None
        self._engine = engine
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def submit(self) -> Call:
        """Submit the request."""
        self._engine.submit(self.request, self._emit, self.cancel_token)
        return self

    def next(self) -> Event:
        """Wait for the next event, other than those that come before the answer."""
        while isinstance(event := self._events.get(timeout=PATIENCE), PROGRESS):
            pass
        return event

    def outcome(self) -> tuple[str, Done | Failed]:
        """Wait for the final event, and return it after the text."""
        text = ""
        while not isinstance(event := self.next(), Done | Failed):
            text += event.text if isinstance(event, Text | Reasoning) else ""
        return text, event

    def answer(self) -> Answer:
        """Wait for the complete answer. Raises the error if it failed."""
        text, event = self.outcome()
        if isinstance(event, Failed):
            raise event.error
        return Answer(text, event)

    def wait_for_text(self) -> None:
        """Wait until the answer has begun."""
        assert isinstance(self.next(), Text)

    def unread(self) -> list[Event]:
        """Return the events that have arrived and not been returned yet."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def _emit(self, event: Event) -> None:
        self._events.put(event)
        self.on_event(event)
