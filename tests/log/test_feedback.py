"""The marks that the user gives."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import pytest

from llm_tiered.errors import TieredError
from llm_tiered.log import feedback
from llm_tiered.paths import feedback_path


def test_mark() -> None:
    """A mark is kept with its note."""
    made = feedback.set_mark("01a", "down", "wrong year")
    assert feedback.marks() == {"01a": made}
    assert (made.verdict, made.note) == ("down", "wrong year")


def test_again() -> None:
    """Marking again replaces the mark."""
    feedback.set_mark("01a", "down", "wrong year")
    feedback.set_mark("01a", "up")
    [mark] = feedback.marks().values()
    assert (mark.verdict, mark.note) == ("up", None)


def test_remove() -> None:
    """A mark is taken back, and the others stay."""
    feedback.set_mark("01a", "down")
    feedback.set_mark("01b", "up")
    feedback.remove_mark("01a")
    assert list(feedback.marks()) == ["01b"]


def test_nothing_yet() -> None:
    """To look for marks makes no file."""
    assert feedback.marks() == {}
    assert not feedback_path().exists()


def test_for_the_owner_only() -> None:
    """Nobody else on the machine can read it."""
    feedback.set_mark("01a", "up")
    assert stat.S_IMODE(feedback_path().stat().st_mode) == 0o600


def test_damaged() -> None:
    """A file that is no database is told, and left alone."""
    feedback_path().parent.mkdir()
    feedback_path().write_text("no database" * 100)
    with pytest.raises(TieredError, match="not a database"):
        feedback.set_mark("01a", "up")
    assert feedback_path().read_text().startswith("no database")


def test_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that stays locked is told, with what to do."""
    monkeypatch.setattr(feedback, "PATIENCE", 0.01)
    feedback.set_mark("01a", "up")
    with closing(sqlite3.connect(feedback_path())) as database:
        database.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked") as caught:
            feedback.set_mark("01b", "up")
    assert caught.value.fix == "try again in a moment"


def test_no_folder() -> None:
    """Where nothing can be written, that is told."""
    feedback_path().parent.write_text("a file")
    with pytest.raises(TieredError, match="can't be used"):
        feedback.set_mark("01a", "up")
