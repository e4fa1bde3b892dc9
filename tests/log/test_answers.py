"""Answers of `tiered` as they are read from llm's log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import RequestError
from llm_tiered.log import answers
from llm_tiered.log.answers import LoggedAnswer, LoggedPrompt
from llm_tiered.log.database import reading
from tests.log.answering import ESCALATED, answering, log_answer
from tests.make_log import MODELS, add, attempt, turn

if TYPE_CHECKING:
    from pathlib import Path


def latest(log: Path, number: int = 100) -> list[LoggedAnswer]:
    """Return the latest answers."""
    with reading(log) as database:
        return list(answers.latest(database, number))


def find(log: Path, start: str | None = None) -> LoggedAnswer:
    """Return the answer whose id begins with `start`, or the latest one."""
    with reading(log) as database:
        return answers.find(database, start)


def prompt_of(log: Path) -> LoggedPrompt:
    """Return the prompt of the latest answer."""
    return find(log).prompt


def test_answer(log: Path) -> None:
    """An answer has its id, the tier and model that gave it, and the prompt."""
    id_ = log_answer(log, "Who wrote Hamlet?", "medium")
    [answer] = latest(log)
    assert (answer.id, answer.tier, answer.model) == (id_, "medium", MODELS["medium"])
    assert answer.prompt == LoggedPrompt("Who wrote Hamlet?", 17, 0, 0, schema=False)


def test_escalated(log: Path) -> None:
    """The tier is the one that answered, and the attempts include those before it."""
    log_answer(log, tier="cloud", escalated=("small", "medium"))
    answer = find(log)
    assert answer.tier == "cloud"
    assert [attempt.reason for attempt in answer.attempts] == [ESCALATED, ESCALATED, None]


def test_checked(log: Path) -> None:
    """An answer says whether it was checked before it was shown."""
    log_answer(log)
    assert not find(log).checked
    log_answer(log, escalate=True)
    assert find(log).checked


def test_attachments_tools_and_schema(log: Path) -> None:
    """Attachments, tools, the schema and the characters of the conversation are counted."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    attachment = llm.Attachment(type="text/plain", content=b"Hello")
    tool = llm.Tool(name="now")
    options: dict[str, Any] = {
        "system": "Be kind.",
        "attachments": [attachment],
        "tools": [tool],
        "schema": schema,
    }
    log_answer(log, "Why?", **options)
    assert prompt_of(log) == LoggedPrompt("Why?", 12, 1, 1, schema=True)


def test_conversation(log: Path) -> None:
    """The prompt is the user's last message; the characters are those of the conversation."""
    conversation = llm.Conversation(model=answering([]))
    log_answer(log, "Who wrote Hamlet?", to=conversation)
    log_answer(log, "And when?", to=conversation)
    assert prompt_of(log) == LoggedPrompt("And when?", 17 + 9 + 9, 0, 0, schema=False)
    assert {answer.thread for answer in latest(log)} == {conversation.id}


def test_after_a_tool(log: Path) -> None:
    """The prompt of a turn that only has tool results is the user's message before them."""
    call = llm.ToolCall(name="now", arguments={}, tool_call_id="1")
    messages = [
        llm.user("What time is it?"),
        llm.assistant(llm.parts.ToolCallPart(name="now", arguments={}, tool_call_id="1")),
    ]
    result = llm.ToolResult(name="now", output="Noon.", tool_call_id=call.tool_call_id)
    log_answer(log, None, messages=messages, tool_results=[result])
    assert prompt_of(log) == LoggedPrompt(
        "What time is it?", 16 + 5, 0, 0, schema=False, in_tool_loop=True
    )


def test_fragments(log: Path) -> None:
    """Texts that llm keeps as fragments are put back in their places."""
    log_answer(log, "Sum this up.", fragments=["Once upon a time."])
    assert prompt_of(log).text == "Once upon a time.\nSum this up."


def test_latest(log: Path) -> None:
    """The latest answers come first, and no more of them than requested."""
    ids = [log_answer(log, f"Question {number}?") for number in range(3)]
    assert [answer.id for answer in latest(log, 2)] == ids[:0:-1]


def test_by_ids(log: Path) -> None:
    """Answers are found by their ids; ids that are not in the log are left out."""
    ids = [log_answer(log, f"Question {number}?") for number in range(3)]
    with reading(log) as database:
        both = list(answers.by_ids(database, [ids[0], "gone", ids[2]]))
    assert [answer.id for answer in both] == [ids[2], ids[0]]


@pytest.mark.parametrize(
    "broken",
    ["{", "null", "[]", "{}", '{"tiered": null}', '{"tiered": {"attempts": [null]}}'],
)
def test_damaged_rows(log: Path, broken: str) -> None:
    """A damaged row is left out, and the others are read."""
    log_answer(log)
    add(log, [turn() | {"id": "zz", "response_json": broken}])
    assert len(latest(log)) == 1
    assert find(log, None) == latest(log)[0]
    with pytest.raises(RequestError, match="damaged"):
        find(log, "zz")


def test_without_messages(log: Path) -> None:
    """The prompt of a turn whose messages are gone is empty."""
    add(log, [turn(attempts=[attempt("small", MODELS["small"])])])
    assert prompt_of(log) == LoggedPrompt("", 0, 0, 0, schema=False)


def test_circular_chain(log: Path) -> None:
    """A damaged chain of messages that is a circle is read once round."""
    conversation = llm.Conversation(model=answering([]))
    log_answer(log, "Why?", to=conversation)
    log_answer(log, "When?", to=conversation)
    with closing(sqlite3.connect(log)) as database, database:
        last = "select parent_message_hash from turns order by id desc limit 1"
        database.execute(f"update messages set parent_hash = ({last}) where parent_hash is null")
    assert prompt_of(log) == LoggedPrompt("When?", 4 + 9 + 5, 0, 0, schema=False)


# Finding an answer by its id


def test_by_the_beginning_of_the_id(log: Path) -> None:
    """The beginning of an id is enough, in upper case too."""
    ids = [log_answer(log, f"Question {number}?") for number in range(2)]
    assert find(log, ids[0].upper()).id == ids[0]
    with pytest.raises(RequestError, match="more than one id begins with 0"):
        find(log, "0")


def test_no_such_answer(log: Path) -> None:
    """An unknown id is an error, and characters with a meaning in SQL have none here."""
    log_answer(log)
    for start in ("zzz", "%", "_", "' or 1 --"):
        with pytest.raises(RequestError, match="no answer with the id"):
            find(log, start)


def test_of_another_model(log: Path) -> None:
    """An answer of another model is refused."""
    add(log, [turn(id="01other") | {"model": "gpt-4o-mini"}])
    with pytest.raises(RequestError, match="answered by gpt-4o-mini directly"):
        find(log, "01other")
    with pytest.raises(RequestError, match="no answer from tiered yet"):
        find(log)


def test_log_without_the_table(logs: Path) -> None:
    """The log of an older llm has no answer from tiered."""
    with closing(sqlite3.connect(logs)) as database:
        database.execute("create table responses (id text)")
    assert latest(logs) == []
    with pytest.raises(RequestError, match="no answer from tiered yet"):
        find(logs, "01")
