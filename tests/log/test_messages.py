"""The messages of a request, as llm keeps them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import sqlite_utils
from llm.parts import AttachmentPart, ReasoningPart, ToolCallPart, ToolResultPart

from llm_tiered.dashboard.requests import find_request
from tests.dashboard.conftest import NOW
from tests.dashboard.texts import add_messages, message
from tests.make_log import add, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.dashboard.requests import LoggedRequest
    from tests.toys import Toys


def find(log: Path, id_: str = "one") -> LoggedRequest:
    """Return a request that is in the log."""
    request = find_request(log, id_)
    assert request is not None
    return request


def change(log: Path, statement: str) -> None:
    """Change the log with an SQL statement."""
    with closing(sqlite3.connect(log)) as database, database:
        database.execute(statement)


def test_only_what_was_new(log: Path) -> None:
    """Of a conversation, the system prompt, the new messages and the answer are read."""
    add(log, [turn(NOW, id="one")])
    before = [message("system", "Be brief."), message("user", "Hello"), message("assistant", "Hi")]
    add_messages(log, "one", [*before, message("user", "And now?")], [message("assistant", "Now.")])
    request = find(log)
    texts = [(message.role, message.parts[0].text) for message in request.messages]
    assert texts == [("system", "Be brief."), ("user", "And now?")]
    assert request.earlier == 2
    assert [message.parts[0].text for message in request.answer] == ["Now."]


def test_newest_system_prompt(log: Path) -> None:
    """Of the system prompts of a conversation, the one that was in force is read."""
    add(log, [turn(NOW, id="one")])
    before = [message("system", "Be brief."), message("user", "Hello"), message("assistant", "Hi")]
    new = [message("system", "In French."), message("user", "And now?")]
    add_messages(log, "one", [*before, *new], [message("assistant", "Ici.")])
    request = find(log)
    texts = [(message.role, message.parts[0].text) for message in request.messages]
    assert texts == [("system", "In French."), ("user", "And now?")]
    assert request.earlier == 3


def test_kinds_of_parts(log: Path) -> None:
    """Reasoning, tool calls, tool results and attachments have titles of their own."""
    add(log, [turn(NOW, id="one")])
    call = ToolCallPart(name="clock", arguments={"zone": "UTC"}, tool_call_id="c")
    result_part = ToolResultPart(name="clock", output="noon", tool_call_id="c")
    picture = AttachmentPart(attachment=llm.Attachment(type="image/png", content=b"png"))
    add_messages(
        log,
        "one",
        [
            message("user", "When?", picture),
            message("assistant", call),
            message("tool", result_part),
        ],
        [message("assistant", ReasoningPart(text="Hm."), "At noon.")],
    )
    request = find(log)
    [result] = request.messages[-1].parts
    assert (result.title, result.text) == ("result of clock", "noon")
    reasoning, text = request.answer[0].parts
    assert (reasoning.title, reasoning.text, text.text) == ("reasoning", "Hm.", "At noon.")
    change(
        log,
        "update turns set tip_message_hash = (select hash from messages where role = "
        "'assistant' order by rowid limit 1), parent_message_hash = (select hash from messages "
        "where role = 'user')",
    )
    request = find(log)
    _, attached = request.messages[0].parts
    assert attached.attachment == picture.attachment.id() if picture.attachment else False
    assert request.answer[0].parts[0].title == "calls clock"
    assert '"zone": "UTC"' in request.answer[0].parts[0].text


def test_fragments(log: Path) -> None:
    """A text that llm keeps as a fragment is put back in its place."""
    add(log, [turn(NOW, id="one")])
    novel = "It was a dark and stormy night. "
    add_messages(
        log,
        "one",
        [message("user", f"{novel}Summarise.")],
        [message("assistant", "Bad weather.")],
        fragments=(novel,),
    )
    assert find(log).messages[0].parts[0].text == f"{novel}Summarise."
    change(log, "delete from fragments")
    assert "no longer in the log" in find(log).messages[0].parts[0].text


def test_texts_of_the_response(toys: Toys, logged: Callable[[], Any], logs: Path) -> None:
    """Texts of a model's own response that llm keeps only once are put back in their places."""
    text = "It was a dark and stormy night, and the rain fell in torrents. " * 3

    def double(number: int) -> int:
        """Twice the number, said in so many words that llm keeps this only once in its log."""
        return 2 * number

    toys.small.tools = True
    toys.small.does = [text]
    logged()
    response = llm.get_model("tiered").prompt("Hello", tools=[double], tier="small")
    response.text()
    response.response_json = {"tiered": {}, "response": {"text": text, "tool": double.__doc__}}
    with closing(sqlite3.connect(logs)) as database:
        response.log_to_db(sqlite_utils.Database(database))
        [[stored]] = database.execute("select response_json from turns")
    assert "stormy" not in stored
    assert find(logs, response.id).inner_response == {"text": text, "tool": double.__doc__}
    change(logs, "delete from parts")
    assert '"$"' in str(find(logs, response.id).inner_response).replace("'", '"')


def test_circular_chain(log: Path) -> None:
    """A damaged chain of messages that is a circle is read once round."""
    add(log, [turn(NOW, id="one")])
    add_messages(log, "one", [message("user", "a")], [message("assistant", "b")])
    change(
        log,
        "update messages set parent_hash = (select hash from messages where role = "
        "'assistant') where role = 'user'",
    )
    request = find(log)
    texts = [part.text for message in request.answer for part in message.parts]
    assert (texts, request.earlier) == (["b"], 0)


def test_damaged_parts(log: Path) -> None:
    """The payload of a damaged part is shown unparsed."""
    add(log, [turn(NOW, id="one")])
    add_messages(log, "one", [message("user", "a")], [message("assistant", "b")])
    change(log, "update parts set text = null, payload = '{broken'")
    assert find(log).messages[0].parts[0].text == "{broken"


def test_without_messages(log: Path) -> None:
    """A request whose messages are gone is read without them."""
    add(log, [turn(NOW, id="one")])
    request = find(log)
    assert (request.messages, request.earlier, request.answer) == ([], 0, [])
    change(log, "drop table parts")
    assert find(log).messages == []


def test_other_models(log: Path) -> None:
    """A request to another model is not found."""
    add(log, [turn(NOW, id="one") | {"model": "gpt-4o"}])
    assert find_request(log, "one") is None
