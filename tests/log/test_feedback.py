"""The user's marks on answers."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import pytest

from llm_tiered.errors import TieredError
from llm_tiered.log import feedback
from llm_tiered.paths import feedback_path


def test_mark() -> None:
    """A mark is stored with its note."""
    mark = feedback.set_mark("01a", "down", "wrong year")
    assert feedback.marks() == {"01a": mark}
    assert (mark.verdict, mark.note) == ("down", "wrong year")


def test_second_mark() -> None:
    """A second mark replaces the first."""
    feedback.set_mark("01a", "down", "wrong year")
    feedback.set_mark("01a", "up")
    [mark] = feedback.marks().values()
    assert (mark.verdict, mark.note) == ("up", None)


def test_remove() -> None:
    """A mark can be removed, and the others stay."""
    feedback.set_mark("01a", "down")
    feedback.set_mark("01b", "up")
    feedback.remove_mark("01a")
    assert list(feedback.marks()) == ["01b"]


def test_no_marks() -> None:
    """Reading the marks creates no file."""
    assert feedback.marks() == {}
    assert not feedback_path().exists()


def test_for_the_owner_only() -> None:
    """Only the owner can read the file."""
    feedback.set_mark("01a", "up")
    assert stat.S_IMODE(feedback_path().stat().st_mode) == 0o600


def test_damaged() -> None:
    """A file that is not a database is an error, and is not changed."""
    feedback_path().parent.mkdir()
    feedback_path().write_text("not a database" * 100)
    with pytest.raises(TieredError, match="not a database"):
        feedback.set_mark("01a", "up")
    assert feedback_path().read_text().startswith("not a database")


def test_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that stays locked is an error that says what to do."""
    monkeypatch.setattr(feedback, "PATIENCE", 0.01)
    feedback.set_mark("01a", "up")
    with closing(sqlite3.connect(feedback_path())) as database:
        database.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked") as caught:
            feedback.set_mark("01b", "up")
    assert caught.value.fix == "try again in a moment"


def test_no_folder() -> None:
    """A folder that can't be created is an error."""
    feedback_path().parent.write_text("a file")
    with pytest.raises(TieredError, match="can't be used"):
        feedback.set_mark("01a", "up")
