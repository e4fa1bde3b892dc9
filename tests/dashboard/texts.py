"""Prompts and answers for the requests of a log, written by llm itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import sqlite_utils
from llm import Message
from llm.logs import LogStore
from llm.parts import TextPart

if TYPE_CHECKING:
    from pathlib import Path

    from llm.parts import Part


def said(role: str, *parts: Part | str) -> Message:
    """Give a message; text is a part of its own."""
    return Message(
        role=role, parts=[TextPart(text=part) if isinstance(part, str) else part for part in parts]
    )


def add_messages(
    path: Path,
    id_: str,
    asked: list[Message],
    answer: list[Message],
    *,
    fragments: tuple[str] | tuple[()] = (),
) -> None:
    """Give a request its messages."""
    with closing(sqlite3.connect(path)) as connection:
        store = LogStore(sqlite_utils.Database(connection))
        parent = store.ensure_chain(asked, fragments=fragments)
        tip = store.ensure_chain(answer, parent=parent)
        with connection:
            connection.execute(
                "update turns set parent_message_hash = ?, tip_message_hash = ? where id = ?",
                (parent, tip, id_),
            )


def add_texts(path: Path, texts: dict[str, tuple[str, str]]) -> None:
    """Give each request a prompt and an answer."""
    for id_, (prompt, answer) in texts.items():
        add_messages(path, id_, [said("user", prompt)], [said("assistant", answer)])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "insert into turn_search (turn_id, prompt, response) values (?, ?, ?)",
                (id_, prompt, answer),
            )
