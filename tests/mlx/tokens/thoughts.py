"""What a model's answer consists of."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llm_tiered.errors import EmptyAnswer

if TYPE_CHECKING:
    import llm

Events = list[tuple[str, str]]


def events(model: llm.Model, **options: Any) -> Events:
    """Return the kinds and texts of an answer's events, with neighbours of one kind merged.

    An answer of thoughts alone ends with an error.
    """
    events: Events = []
    with suppress(EmptyAnswer):
        for event in model.prompt("Hello", **options).stream_events():
            if events and events[-1][0] == event.type:
                events[-1] = (event.type, events[-1][1] + event.chunk)
            else:
                events.append((event.type, event.chunk))
    return events
