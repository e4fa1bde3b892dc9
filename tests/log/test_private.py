"""Private conversations, remembered by what a client sees of them."""

from __future__ import annotations

import llm
from llm.parts import ReasoningPart, ToolCallPart, ToolResultPart

from llm_tiered.log.private import PrivateConversations

HELLO = [llm.system("Be brief"), llm.user("Hello")]


def test_has() -> None:
    """A conversation is known with all that follows it, and no other one is."""
    private = PrivateConversations()
    private.add([*HELLO, llm.assistant("Hi ")])
    known = [*HELLO, llm.assistant("Hi")]
    assert private.has(known)
    assert private.has([*known, llm.user("And?"), llm.assistant("Yes"), llm.user("Well")])
    assert not private.has(HELLO)
    assert not private.has([*HELLO, llm.assistant("Hello")])
    assert not private.has([llm.user("Hello"), llm.assistant("Hi")])


def test_parts() -> None:
    """Calls of tools, their results and attachments count; ids do not."""
    private = PrivateConversations()
    image = llm.Attachment(type="image/png", content=b"png")
    call, other = (ToolCallPart("add", {"a": 1, "b": 2}, id_) for id_ in ("c1", None))
    result, again = (ToolResultPart("add", "3", id_) for id_ in ("c1", "c2"))
    asked = llm.user("Add", image)
    private.add([asked, llm.assistant(call), llm.tool_message(result), llm.assistant("3")])
    assert private.has([asked, llm.assistant(other), llm.tool_message(again), llm.assistant("3")])
    assert not private.has([llm.user("Add"), llm.assistant(call), llm.tool_message(result)])


def test_oldest_is_forgotten() -> None:
    """There is a bound on how many are remembered."""
    private = PrivateConversations(most=2)
    conversations = [[llm.user(str(at)), llm.assistant("Hi")] for at in range(3)]
    for conversation in conversations:
        private.add(conversation)
    assert [private.has(each) for each in conversations] == [False, True, True]
    assert not private.has([llm.user("2"), llm.assistant(ReasoningPart("hmm"))])
