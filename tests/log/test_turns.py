"""The turns of the log with their prompts, conversation by conversation."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.costs.periods import ALWAYS, WITHIN, Period, period_of
from llm_tiered.log import turns as turns_module
from llm_tiered.log.database import reading
from llm_tiered.log.turns import LoggedConversations, TurnWithPrompt, left_out
from tests.dashboard.texts import add_messages, message
from tests.make_log import END, YEAR, Row, add, turn

if TYPE_CHECKING:
    from pathlib import Path


def logged(log: Path, period: Period = ALWAYS) -> list[TurnWithPrompt]:
    """The turns of a log."""
    with reading(log) as database:
        return list(LoggedConversations(database, WITHIN, period.bounds))


def texts(turn_: TurnWithPrompt) -> list[tuple[str, str]]:
    """The roles and texts of the messages of a turn's prompt."""
    assert turn_.messages is not None
    return [(each.role, "".join(part.text for part in each.parts)) for each in turn_.messages]  # type: ignore[attr-defined]


def add_conversation(log: Path, *ids: str, thread: str = "t") -> None:
    """Add turns of a conversation, each with a prompt and an answer named after it."""
    chain: list[Any] = [message("system", "Be brief.")]
    for id_ in ids:
        row: Row = {**turn(END, id=id_), "thread_id": thread}
        add(log, [row])
        chain = [*chain, message("user", f"prompt {id_}")]
        answer = message("assistant", f"answer {id_}")
        add_messages(log, id_, chain, [answer])
        chain = [*chain, answer]


@pytest.mark.parametrize("most", [turns_module.MOST_CHARACTERS, 0])
@pytest.mark.parametrize("chunk", [1, 2, 50])
def test_conversations_in_order(
    log: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, most: int
) -> None:
    """They come one after the other, however many turns are read at a time."""
    monkeypatch.setattr(turns_module, "CHUNK", chunk)
    monkeypatch.setattr(turns_module, "MOST_CHARACTERS", most)
    add_conversation(log, "1", "3", "5", thread="a")
    add_conversation(log, "2", "4", thread="b")
    found = logged(log)
    assert [each.id for each in found] == ["1", "3", "5", "2", "4"]
    assert texts(found[2]) == [
        ("system", "Be brief."),
        *(("user", "prompt 1"), ("assistant", "answer 1")),
        *(("user", "prompt 3"), ("assistant", "answer 3")),
        ("user", "prompt 5"),
    ]
    assert texts(found[3]) == [("system", "Be brief."), ("user", "prompt 2")]


def test_conversations_that_began_before_the_period(log: Path) -> None:
    """Their earlier turns come, too, but are not counted; later ones and other threads don't."""
    for id_, when in {"1": END - 2 * YEAR, "2": END - YEAR, "3": END}.items():
        add(log, [{**turn(when, id=id_), "thread_id": "a"}])
        add(log, [{**turn(when, id=f"{id_}-other"), "thread_id": f"b{id_}"}])
    period = period_of(str((END - YEAR).date()), str((END - YEAR).date()))
    assert [(each.id, each.counted) for each in logged(log, period)] == [
        ("1", False),
        ("2", True),
        ("2-other", True),
    ]


def test_text_that_is_gone(log: Path) -> None:
    """A turn whose messages or fragments are gone, or go round in a circle, has none."""
    add_conversation(log, "1", "2", thread="a")
    novel = message("user", "A long novel. Who wrote it?")
    add(log, [turn(END, id="3"), turn(END, id="4"), turn(END, id="5")])
    add_messages(log, "3", [novel], [message("assistant", "He.")], fragments=("A long novel.",))
    add_messages(log, "4", [message("user", "Circle")], [message("assistant", "Round")])
    with closing(sqlite3.connect(log)) as database, database:
        database.execute("delete from fragments")
        database.execute("delete from messages where parent_hash is null and role = 'system'")
        database.execute(
            "update messages set parent_hash = hash where hash in "
            "(select parent_message_hash from turns where id = '4')"
        )
    assert {each.id: each.messages for each in logged(log)} == dict.fromkeys("12345")


def test_damaged_rows(log: Path) -> None:
    """Values that are not what they should be are None, and a row without a time is counted."""
    broken = {"options_json": "{", "response_json": "[", "thread_id": None}
    add(log, [turn(END, id="1") | broken])
    add(log, [turn(END, id=each) | {"datetime_utc": each} for each in ("", "soon", "2026-13-01")])
    [found] = logged(log)
    assert (found.id, found.options, found.record) == ("1", None, None)
    add(log, [turn(END, id="3")], table="responses")
    with reading(log) as database:
        assert left_out(database, WITHIN, ALWAYS.bounds) == (1, 3)


def test_a_log_of_an_older_llm(log: Path) -> None:
    """What its tables lack, its turns don't have."""
    add_conversation(log, "1")
    with closing(sqlite3.connect(log)) as database, database:
        for table in ("schemas", "turn_tools", "turn_fragments", "part_fragments"):
            database.execute(f"drop table {table}")
    [found] = logged(log)
    assert (found.schema, found.tools, found.fragments) == (None, (), ())
    assert texts(found)[-1] == ("user", "prompt 1")
