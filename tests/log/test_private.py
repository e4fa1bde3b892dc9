"""Private conversations, remembered by what a client sees of them."""

from __future__ import annotations

import llm
from llm.parts import ReasoningPart, ToolCallPart, ToolResultPart

from llm_tiered.log.private import PrivateConversations

HELLO = [llm.system("Be brief"), llm.user("Hello")]


def test_kept() -> None:
    """A conversation is known with all that follows it, and no other one is."""
    private = PrivateConversations()
    private.add([*HELLO, llm.assistant("Hi ")], "here")
    known = [*HELLO, llm.assistant("Hi")]
    assert private.kept(known) == "here"
    assert (
        private.kept([*known, llm.user("And?"), llm.assistant("Yes"), llm.user("Well")]) == "here"
    )
    assert private.kept(HELLO) is None
    assert private.kept([*HELLO, llm.assistant("Hello")]) is None
    assert private.kept([llm.user("Hello"), llm.assistant("Hi")]) is None


def test_parts() -> None:
    """Calls of tools, their results and attachments count; ids do not."""
    private = PrivateConversations()
    image = llm.Attachment(type="image/png", content=b"png")
    call, other = (ToolCallPart("add", {"a": 1, "b": 2}, id_) for id_ in ("c1", None))
    result, again = (ToolResultPart("add", "3", id_) for id_ in ("c1", "c2"))
    asked = llm.user("Add", image)
    private.add([asked, llm.assistant(call), llm.tool_message(result), llm.assistant("3")], "here")
    assert (
        private.kept([asked, llm.assistant(other), llm.tool_message(again), llm.assistant("3")])
        == "here"
    )
    assert private.kept([llm.user("Add"), llm.assistant(call), llm.tool_message(result)]) is None


def test_oldest_is_forgotten() -> None:
    """There is a bound on how many are remembered."""
    private = PrivateConversations(most=2)
    conversations = [[llm.user(str(at)), llm.assistant("Hi")] for at in range(3)]
    for conversation in conversations:
        private.add(conversation, "here")
    assert [private.kept(each) for each in conversations] == [None, "here", "here"]
    assert private.kept([llm.user("2"), llm.assistant(ReasoningPart("hmm"))]) is None


def test_the_strictest_holds() -> None:
    """What once had to stay on this machine does, though it later might go to the user's others."""
    private = PrivateConversations()
    first = [*HELLO, llm.assistant("Hi")]
    second = [*first, llm.user("And?"), llm.assistant("Yes")]
    private.add(first, "own")
    assert private.kept(second) == "own"
    private.add(second, "here")
    private.add(second, "own")
    assert private.kept(second) == "here"
    assert private.kept(first) == "own"
