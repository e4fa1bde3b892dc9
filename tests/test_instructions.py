"""Which system prompt holds, and what a model gets where there is no prompt."""

from __future__ import annotations

from typing import Any

import llm
import pytest

from llm_tiered import instructions
from tests.stand_in import StandIn

TURN = [llm.user("Hello"), llm.assistant("Hi"), llm.user("Bye")]
RESULT = llm.tool_message(llm.parts.ToolResultPart(name="double", output="4"))


def ask(text: str | None = "Hello", **fields: Any) -> llm.Prompt:
    """A prompt to some model."""
    return llm.Prompt(text, model=StandIn("toy"), **fields)


@pytest.mark.parametrize(
    ("systems", "newest"),
    [
        ([], ""),
        (["A"], "A"),
        (["A", "B"], "B"),
        (["A", None, "B"], "B"),
        (["A", "B", None], "B"),
    ],
)
def test_newest_holds(systems: list[str | None], newest: str) -> None:
    """The newest system prompt holds for its own turn and for later ones."""
    messages: list[llm.Message] = []
    for system in systems:
        prompt = ask(messages=[*messages, llm.user("Hello")], system=system)
        instructions.record(prompt)
        messages = [*prompt.messages, llm.assistant("Hi")]
    assert instructions.in_force(messages) == newest


def test_messages_in_a_row_are_one() -> None:
    """System messages that follow each other hold together."""
    messages = [llm.system("A"), llm.system("B"), llm.user("Hello")]
    assert instructions.in_force(messages) == "A\n\nB"


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        (TURN[:1], 0),
        (TURN, 2),
        ([llm.system("Old."), *TURN], 3),
        ([llm.system("Old."), *TURN, llm.assistant("1"), RESULT, llm.user("And?")], 6),
        ([*TURN, llm.assistant("1"), RESULT], 5),
        ([llm.system("Old.")], 0),
        ([llm.system("Old."), llm.user("Hello")], 0),
    ],
    ids=["first", "later", "changed", "with results", "only results", "alone", "instead"],
)
def test_place(messages: list[llm.Message], place: int) -> None:
    """It stands before the turn that brings it, instead of another one for that turn."""
    prompt = ask(messages=messages, system="New.")
    instructions.record(prompt)
    assert prompt.messages[place] == llm.system("New.")
    others = [message for message in prompt.messages if message.role != "system"]
    assert others == [message for message in messages if message.role != "system"]
    assert instructions.in_force(prompt.messages) == "New."


@pytest.mark.parametrize("fields", [{}, {"system": "A"}, {"system_fragments": ["A", "B"]}])
def test_first_turn_is_left_alone(fields: dict[str, Any]) -> None:
    """Where llm has put the system prompt among the messages already, they stay the same."""
    for prompt in (ask(**fields), StandIn("toy").conversation().prompt("Hello", **fields).prompt):
        before = prompt.messages
        instructions.record(prompt)
        instructions.record(prompt)
        assert prompt.messages == before


def test_sent_messages() -> None:
    """A model gets the system prompt that holds, first, and no other."""
    messages = [llm.system("Old."), *TURN]
    prompt = ask(messages=messages, system="New.")
    assert instructions.as_sent(prompt, [llm.user("Again")]) == [
        llm.system("New."),
        *TURN,
        llm.user("Again"),
    ]
    assert instructions.as_sent(ask()) == [llm.user("Hello")]
    assert prompt.messages == messages


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, []),
        ({"system": "Say hello."}, [llm.user("Say hello.")]),
        ({"system": "Say hello.", "schema": {"type": "object"}}, [llm.user("Say hello.")]),
        ({"schema": {"type": "object"}}, [llm.user("Write JSON that fits the schema.")]),
    ],
)
def test_without_prompt(fields: dict[str, Any], asked: list[llm.Message]) -> None:
    """Without a prompt, the system prompt or the schema is what the model is asked."""
    assert instructions.as_sent(ask(None, **fields)) == asked
