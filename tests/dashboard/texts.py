"""Prompts and answers for the requests in a log, written by llm itself."""

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


def message(role: str, *parts: Part | str) -> Message:
    """Return a message; a text becomes a text part."""
    return Message(
        role=role, parts=[TextPart(text=part) if isinstance(part, str) else part for part in parts]
    )


def add_messages(
    path: Path,
    id_: str,
    prompt: list[Message],
    answer: list[Message],
    *,
    fragments: tuple[str] | tuple[()] = (),
) -> None:
    """Add the messages of a request."""
    with closing(sqlite3.connect(path)) as connection:
        store = LogStore(sqlite_utils.Database(connection))
        parent = store.ensure_chain(prompt, fragments=fragments)
        tip = store.ensure_chain(answer, parent=parent)
        with connection:
            connection.execute(
                "update turns set parent_message_hash = ?, tip_message_hash = ? where id = ?",
                (parent, tip, id_),
            )


def add_texts(path: Path, texts: dict[str, tuple[str, str]]) -> None:
    """Add a prompt and an answer to each request."""
    for id_, (prompt, answer) in texts.items():
        add_messages(path, id_, [message("user", prompt)], [message("assistant", answer)])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "insert into turn_search (turn_id, prompt, response) values (?, ?, ?)",
                (id_, prompt, answer),
            )
