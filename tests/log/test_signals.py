"""What users do after an answer that was not good enough for them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.log.answers import LoggedAnswer, LoggedPrompt
from llm_tiered.log.signals import signals

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = {"small": 0, "medium": 1, "cloud": 2}

_numbers: Iterator[int] = count()


def answer(second: int, text: str = "Who wrote Hamlet?", **fields: Any) -> LoggedAnswer:
    """Return an answer to a prompt that was asked in this second."""
    prompt_fields = {name: fields.pop(name) for name in ("in_tool_loop",) if name in fields}
    values = {
        "id": f"{second:05}",
        "thread": f"t{next(_numbers)}",
        "when": f"2026-05-01T10:{second // 60:02}:{second % 60:02}",
        "model": None,
        "tier": "small",
        "attempts": (),
        "checked": False,
        "prompt": LoggedPrompt(text, len(text), 0, 0, False, **prompt_fields),
        "source": "estimate",
        "asked": f"hash {next(_numbers)}",
    }
    return LoggedAnswer(**values | fields)


def test_asked_again() -> None:
    """The same question again, in other letters or spaces, is a signal about the first answer."""
    log = [answer(0), answer(20, "who  wrote hamlet?\n"), answer(40, "What else?")]
    assert signals(log, PLACES) == {"00000": "asked again"}


def test_regenerated() -> None:
    """The same question in the same place of a conversation is an answer that was regenerated."""
    log = [answer(second, thread="a", asked="x") for second in (0, 9)]
    assert signals(log, PLACES) == {"00000": "regenerated"}


def test_higher_tier() -> None:
    """A higher tier named right after an answer, in its thread or for its question, is one, too."""
    said = {"tier": "cloud", "source": "tier"}
    for before, after in (
        (answer(0, thread="a"), answer(30, "No, do it properly", thread="a", **said)),
        (answer(0), answer(30, **said)),
    ):
        assert signals([after, before], PLACES) == {"00000": "moved up"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"text": "Who wrote Faust?"}),
        ({}, {"second": 1}),
        ({}, {"second": 3000}),
        ({}, {"when": "damaged"}),
        ({}, {"cached": True}),
        ({"cached": True}, {}),
        ({"source": "tier"}, {}),
        ({"tier": "cloud"}, {"tier": "medium", "source": "tier"}),
        ({}, {"in_tool_loop": True}),
        ({"text": " "}, {"text": ""}),
    ],
    ids=[
        *("another question", "at once", "much later", "damaged time", "from the cache"),
        *("of the cache", "compares tiers", "down", "tool loop", "no text"),
    ],
)
def test_no_signal(before: dict[str, Any], after: dict[str, Any]) -> None:
    """What may have other reasons is not a signal."""
    log = [answer(**{"second": 0} | before), answer(**{"second": 20} | after)]
    assert signals(log, PLACES) == {}


def test_programs() -> None:
    """A question that is asked several times comes from a program."""
    assert signals([answer(at * 60) for at in range(5)], PLACES) == {}
