"""Which thread of the log messages continue, and whether it is private."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import ReasoningPart, StreamEvent

from llm_tiered.log.threads import KnownThread, find_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.toys import Toys

    Turns = Callable[[], list[dict[str, Any]]]

CALL = llm.ToolCall("add", {"a": 1}, "call_1")
HELLO = [llm.system("Be brief"), llm.user("Hello")]


def ask(messages: list[Any], **options: Any) -> Any:
    """The answer of the small tier, which is logged."""
    options = {"complexity": 2, **options}
    response = llm.get_model("tiered").prompt(messages=messages, options=options)
    response.text()
    return response


def test_answer_with_thoughts(toys: Toys, logged: Turns) -> None:
    """An answer is known by its text, whatever the log has beside that."""
    toys.small.does = [StreamEvent(type="reasoning", chunk="hmm"), "small ", "answer"]
    first = ask(HELLO)
    [turn] = logged()
    known = KnownThread(turn["thread_id"])
    for answer in ("small answer", "small answer\n"):
        assert find_thread([*HELLO, llm.assistant(answer)]) == known
    assert find_thread([*HELLO, *first.messages()]) == known
    assert find_thread([*HELLO, llm.assistant("another")]) == KnownThread()
    assert find_thread([llm.user("Hello"), llm.assistant("small answer")]) == KnownThread()
    assert find_thread(HELLO) == KnownThread()


def test_tool_calls(toys: Toys, logged: Turns) -> None:
    """An answer is known by its tool calls, too, whatever their ids are."""
    toys.small.tools = True
    toys.small.does = ["Let me see", CALL]
    tool = llm.Tool("add", None, {"type": "object", "properties": {}})
    model = llm.get_model("tiered")
    model.prompt(messages=HELLO, tools=[tool], options={"complexity": 2}).text()
    [turn] = logged()
    part = llm.parts.ToolCallPart("add", {"a": 1}, "another id")
    assert find_thread([*HELLO, llm.assistant("Let me see", part)]).thread_id == turn["thread_id"]
    other = llm.parts.ToolCallPart("add", {"a": 2}, "call_1")
    assert find_thread([*HELLO, llm.assistant("Let me see", other)]) == KnownThread()


def test_later_turns(toys: Toys, logged: Turns) -> None:
    """A turn in a thread is found by all messages before it; a fork is a thread of its own."""
    ask(HELLO)
    longer = [*HELLO, llm.assistant("small answer"), llm.user("And?")]
    ask([*longer[:2], llm.assistant(ReasoningPart("hmm"), "small answer"), llm.user("And?")])
    ask(longer)
    threads = [turn["thread_id"] for turn in logged()]
    assert find_thread([*longer, llm.assistant("small answer")]).thread_id == threads[2]
    assert find_thread([*longer, llm.assistant("edited")]) == KnownThread()


@pytest.mark.parametrize("last", ["small answer", "edited"])
def test_private(toys: Toys, logged: Turns, last: str) -> None:
    """Messages after a private turn are private, also where a later answer is not in the log."""
    ask(HELLO, local_only=True)
    messages = [*HELLO, llm.assistant("small answer"), llm.user("And?"), llm.assistant(last)]
    assert find_thread(messages).kept
    assert not find_thread([llm.user("Hi"), llm.assistant("small answer")]).kept


def test_damaged_record(toys: Toys, logged: Turns, logs: Path) -> None:
    """A turn whose record can't be read may have been private."""
    ask(HELLO)
    with closing(sqlite3.connect(logs)) as database:
        database.execute("update turns set response_json = '{'")
        database.commit()
    assert find_thread([*HELLO, llm.assistant("small answer")]).kept


def test_unreadable_log(logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the log can't be read, nobody knows, so that a conversation stays here."""
    logs.write_bytes(b"no database" * 100)
    assert find_thread([*HELLO, llm.assistant("x")]) == KnownThread(kept="here")
    assert "it stays on this machine" in caplog.text
    assert find_thread(HELLO) == KnownThread()


def test_no_log(user_path: Path) -> None:
    """Without a log there is nothing to find."""
    assert find_thread([*HELLO, llm.assistant("x")]) == KnownThread()
