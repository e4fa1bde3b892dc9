"""The tier of a conversation: that of its last turn, in this process or in the log."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.log.conversation import Past, last_asked, last_turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.toys import Ask

ROW = {
    "parent_message_hash": None,
    "tip_message_hash": "b2:0",
    "model": "tiered",
    "datetime_utc": "2026-01-01T00:00:00",
}
CLOUD = json.dumps({"tiered": {"tier": "cloud", "complexity": 8}})


@pytest.fixture
def write(
    logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> Callable[[str, str, str | None], None]:
    """Return a function that logs a turn with an id, a thread and a response_json.

    Without a record of `tiered`, it is the turn of another model.
    """

    def write(turn: str, thread: str, response_json: str | None) -> None:
        model = "tiered" if "tiered" in (response_json or "") else "another"
        row = ROW | {"id": turn, "thread_id": thread, "response_json": response_json}
        row["model"] = model
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        with closing(sqlite3.connect(logs)) as database, database:
            database.execute(f"insert into turns ({names}) values ({marks})", row)

    return write


def loaded(thread: str) -> llm.Conversation:
    """Return a conversation as `llm -c` continues it."""
    model = llm.get_model("tiered")
    messages = [llm.user("Hello"), llm.assistant("Hello")]
    return llm.Conversation(model=model, id=thread, loaded_messages=messages)


def test_no_conversation() -> None:
    """Without a conversation there is no earlier tier."""
    assert last_turn(None) == Past()


def test_first_turn() -> None:
    """Before the first turn of a conversation there is no tier, and the log is not read."""
    assert last_turn(llm.get_model("tiered").conversation()) == Past()


async def test_this_process(ask: Ask) -> None:
    """A turn of this process counts whether it was logged or not."""
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, complexity=2)
    assert last_turn(conversation) == ("small", 2, "option", None)
    await ask("Hello", to=conversation, tier="medium")
    assert last_turn(conversation) == ("medium", None, "tier", None)


async def test_turn_of_another_model(ask: Ask) -> None:
    """If another model than `tiered` gave the last answer, there is no tier."""
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, complexity=2)
    conversation.responses[-1].response_json = {"candidates": []}
    assert last_turn(conversation) == Past()


@pytest.mark.parametrize("response_json", [None, [], "text", {"tiered": None}, {"tiered": "x"}])
async def test_unknown_form(ask: Ask, response_json: Any) -> None:
    """If the last response_json has an unknown form, there is no tier."""
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation)
    conversation.responses[-1].response_json = response_json
    assert last_turn(conversation) == Past()


def test_log(write: Callable[[str, str, str | None], None]) -> None:
    """A conversation continued from the log has the tier of its last turn there."""
    write("1", "a", json.dumps({"tiered": {"tier": "small", "complexity": 1}}))
    write("2", "a", CLOUD)
    write("3", "b", json.dumps({"tiered": {"tier": "medium", "complexity": 6}}))
    assert last_turn(loaded("a")) == ("cloud", 8, None, None)


async def test_when_it_was_last_continued(
    ask: Ask, write: Callable[[str, str, str | None], None]
) -> None:
    """The time of the last turn is known, in this process or from the log."""
    write("1", "a", CLOUD)
    assert last_asked(loaded("a")) == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert last_asked(loaded("b")) is last_asked(None) is None
    conversation = ask.model.conversation()
    assert last_asked(conversation) is None
    response = await ask("Hello", to=conversation)
    assert last_asked(conversation) == response._start_utcnow


async def test_written_by_llm(ask: Ask, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """A turn that llm itself logged is read."""
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, task="content_validation")
    assert len(logged()) == 1
    assert last_turn(loaded(conversation.id)) == ("small", 3, "task", None)


@pytest.mark.parametrize(
    "response_json",
    [
        None,
        "",
        "{broken",
        "null",
        "[]",
        '"text"',
        '{"candidates": []}',
        '{"tiered": {"tier": null, "complexity": null}}',
    ],
)
def test_row_without_a_tier(
    write: Callable[[str, str, str | None], None], response_json: str | None
) -> None:
    """A row of another model, or a record without a tier, has no tier."""
    write("1", "a", response_json)
    assert last_turn(loaded("a")) == Past()


def test_last_row_of_another_model(write: Callable[[str, str, str | None], None]) -> None:
    """Only the last turn counts, even if `tiered` answered an earlier one."""
    write("1", "a", CLOUD)
    write("2", "a", '{"candidates": []}')
    assert last_turn(loaded("a")) == Past()


def test_last_row_without_json(
    write: Callable[[str, str, str | None], None],
) -> None:
    """A last turn without response_json counts as the last turn too."""
    write("1", "a", CLOUD)
    write("2", "a", None)
    assert last_turn(loaded("a")) == Past()


KEPT = json.dumps({"tiered": {"tier": "small", "source": "option", "local_only": True}})


@pytest.mark.parametrize("later", [CLOUD, "{broken", None, '{"candidates": []}'])
def test_local_only(write: Callable[[str, str, str | None], None], later: str | None) -> None:
    """A turn that had to stay on this machine binds all later turns, whatever they are."""
    write("1", "a", "{broken")
    write("2", "a", KEPT)
    write("3", "a", later)
    write("4", "b", CLOUD)
    assert last_turn(loaded("a")).kept
    assert not last_turn(loaded("b")).kept


def test_unknown_thread(write: Callable[[str, str, str | None], None]) -> None:
    """A conversation that is not in the log has no tier."""
    write("1", "a", CLOUD)
    assert last_turn(loaded("b")) == Past()


def test_no_database(logs: Path) -> None:
    """Without a log there is no tier, and no log is created."""
    assert last_turn(loaded("a")) == Past()
    assert not logs.exists()


def test_empty_database(logs: Path) -> None:
    """A log without tables has no turns, and is not changed."""
    logs.touch()
    assert last_turn(loaded("a")) == Past()
    assert logs.read_bytes() == b""


def test_broken_database(logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the log can't be read, the conversation stays on this machine, with a warning."""
    content = b"this is not a database" * 100
    logs.write_bytes(content)
    assert last_turn(loaded("a")) == Past(kept="here")
    assert logs.read_bytes() == content
    [warning] = caplog.messages
    assert warning == (
        f"{logs} can't be read (file is not a database), so it is unknown whether this "
        "conversation is private: it stays on this machine"
    )


def test_locked_database(
    write: Callable[[str, str, str | None], None],
    logs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While another program locks the log, a conversation stays on this machine."""
    write("1", "a", CLOUD)
    connect = sqlite3.connect
    with closing(connect(logs, isolation_level=None)) as other:
        other.execute("begin exclusive")
        monkeypatch.setattr(sqlite3, "connect", partial(connect, timeout=0.01))
        assert last_turn(loaded("a")).kept


@pytest.mark.parametrize("damaged", ['{"tiered": {', '{"tiered": null}', '{"tiered": []}'])
def test_damaged_record(write: Callable[[str, str, str | None], None], damaged: str) -> None:
    """A turn whose record is damaged may have been private, so the conversation stays here."""
    write("1", "a", damaged)
    write("2", "a", CLOUD)
    write("3", "b", CLOUD)
    assert last_turn(loaded("a")) == ("cloud", 8, None, "here")
    assert not last_turn(loaded("b")).kept


def test_path_with_special_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_log: Path
) -> None:
    """A user directory is found if its name has characters with a meaning in URLs."""
    folder = tmp_path / "a ?b#c%20"
    folder.mkdir()
    (folder / "logs.db").write_bytes(empty_log.read_bytes())
    monkeypatch.setenv("LLM_USER_PATH", str(folder))
    row = ROW | {"id": "1", "thread_id": "a", "response_json": CLOUD}
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    with closing(sqlite3.connect(folder / "logs.db")) as database, database:
        database.execute(f"insert into turns ({names}) values ({marks})", row)
    assert last_turn(loaded("a")) == ("cloud", 8, None, None)
