"""Whether a model is stuck in a loop of tool calls."""

from __future__ import annotations

import llm
import pytest
from llm.parts import ToolCallPart, ToolResultPart

from llm_tiered.router.loops import ToolLoop, tool_loop
from tests.router.recorded_loops import GOOD, STUCK, Loop

FALSE_ALARMS = {"presses a key several times"}
"""Loops that only look as if the model were stuck: nothing in a result tells that it gets on."""


def messages(loop: Loop, *, with_ids: bool = True) -> list[llm.Message]:
    """Return the conversation of a loop."""
    result = [llm.user("Do it.")]
    for at, calls in enumerate(loop):
        ids = [f"{at}-{place}" if with_ids else None for place in range(len(calls))]
        result += [
            llm.assistant(
                *(
                    ToolCallPart(name, arguments, id_)
                    for (name, arguments, _), id_ in zip(calls, ids, strict=True)
                )
            ),
            llm.tool_message(
                *(
                    ToolResultPart(name, output, tool_call_id=id_)
                    for (name, _, output), id_ in zip(calls, ids, strict=True)
                )
            ),
        ]
    return result


def caught(loop: Loop, *, with_ids: bool = True) -> bool:
    """Return whether the model is stuck after any answer of the loop."""
    ends = range(1, len(loop) + 1)
    return any(tool_loop(messages(loop[:end], with_ids=with_ids)).stuck for end in ends)


@pytest.mark.parametrize("with_ids", [True, False], ids=["ids", "no ids"])
def test_recorded_loops(with_ids: bool) -> None:
    """Each of twenty stuck loops is caught, and hardly any of twenty good ones."""
    assert len(STUCK) == len(GOOD) == 20
    missed = {name for name, loop in STUCK.items() if not caught(loop, with_ids=with_ids)}
    alarms = {name for name, loop in GOOD.items() if caught(loop, with_ids=with_ids)}
    assert (missed, alarms) == (set(), FALSE_ALARMS)


def test_reasons() -> None:
    """The reason names the tool, or the number of failures, and no argument."""
    again, failed = STUCK["asks for the weather again"], STUCK["fails after a good start"]
    why = "called weather again with the same arguments and the same result"
    assert tool_loop(messages(again)) == ToolLoop(why, 3)
    assert tool_loop(messages(failed)) == ToolLoop("3 of the last 6 tool calls failed", 6)


def test_new_message() -> None:
    """Calls before the user's last message don't count."""
    before = messages(STUCK["the same sum again"])
    assert tool_loop([*before, llm.user("And now?")]) == ToolLoop()
    loop = messages(STUCK["the same sum again"][:1])[1:]
    assert tool_loop([*before, llm.user("And now?"), *loop]) == ToolLoop(answers=1)


def test_exceptions() -> None:
    """A result with an exception is a failure, whatever its text is."""
    loop = messages([[("f", {"n": at}, "oh")] for at in range(3)])
    assert tool_loop(loop).stuck is None
    for message in loop[2::2]:
        for part in message.parts:
            assert isinstance(part, ToolResultPart)
            part.exception = "ValueError: oh"
    assert tool_loop(loop).stuck == "3 of the last 3 tool calls failed"


def test_earlier_answer() -> None:
    """It is known that a model was stuck, also after it has got on."""
    loop = [*STUCK["the same sum again"], *GOOD["one call"]]
    why = "called calculate again with the same arguments and the same result"
    assert tool_loop(messages(loop)) == ToolLoop(None, 3, why)


def test_nothing_to_see() -> None:
    """Without calls, or with results whose calls are unknown, no model is stuck."""
    assert tool_loop([]) == tool_loop([llm.user("Hi")]) == ToolLoop()
    alone = llm.tool_message(ToolResultPart("f", "x"))
    assert tool_loop([llm.user("Hi"), alone, alone]) == ToolLoop()
