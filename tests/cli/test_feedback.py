"""`llm tiered feedback`: marks, and errors where there is nothing to mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.log import feedback
from llm_tiered.paths import feedback_path
from tests.cli.commands import refused, run, run_json
from tests.log.answering import log_answer
from tests.make_log import MODELS, add, empty_log, turn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log of llm."""
    empty_log(logs)
    return logs


def test_last_answer(log: Path) -> None:
    """Without an id the last answer of `tiered` is marked, and the output shows it."""
    log_answer(log, "First?")
    last = log_answer(log, "Who  wrote\nHamlet?")
    add(log, [turn(id="zz") | {"model": "gpt-4o-mini"}])
    output = run("feedback", "down", "--note", "wrong").stdout
    assert output == f'down: {last}, "Who wrote Hamlet?", answered by {MODELS["small"]}\n'
    mark = feedback.marks()[last]
    assert (mark.verdict, mark.note) == ("down", "wrong")


def test_by_id(log: Path) -> None:
    """An id or its beginning marks that answer."""
    first = log_answer(log, "First?")
    log_answer(log, "Second?")
    run("feedback", "up", first)
    run("feedback", "down", first.upper())
    assert {turn: mark.verdict for turn, mark in feedback.marks().items()} == {first: "down"}


def test_remove(log: Path) -> None:
    """A mark can be removed once."""
    last = log_answer(log)
    run("feedback", "up")
    assert run("feedback", "remove").stdout == f"mark removed: {last}\n"
    assert feedback.marks() == {}
    assert refused("feedback", "remove") == f"{last} has no mark (llm tiered feedback list)"


def test_remove_the_mark_of_a_deleted_answer(log: Path) -> None:
    """The mark of a deleted answer can be removed."""
    feedback.set_mark("01abc", "down")
    run("feedback", "remove", "01a")
    assert feedback.marks() == {}


def test_remove_one_of_many(log: Path) -> None:
    """An ambiguous id removes no mark."""
    feedback.set_mark("01abc", "down")
    feedback.set_mark("01abd", "down")
    assert refused("feedback", "remove", "01a").startswith("more than one marked answer")
    assert len(feedback.marks()) == 2


def test_control_characters_are_shown_as_text(log: Path) -> None:
    """Control characters of a prompt do not reach the terminal."""
    log_answer(log, "Is \x1b[31mthis\x07 red?")
    output = CliRunner().invoke(cli, ["tiered", "feedback", "up"], color=True).stdout
    assert '"Is [U+001B][31mthis[U+0007] red?"' in output


def test_list(log: Path) -> None:
    """Marks are listed with their answers; without the log, only the marks are listed."""
    assert run("feedback", "list").stdout == "no marks yet\n"
    last = log_answer(log, "Why? " * 40, "medium")
    run("feedback", "down", "--note", "too short")
    [row] = run_json("feedback", "list")
    assert row | {"when": None} == {
        "id": last,
        "mark": "down",
        "when": None,
        "tier": "medium",
        "model": MODELS["medium"],
        "prompt": "Why? " * 40,
        "note": "too short",
    }
    line = run("feedback", "list").stdout
    assert f"{last}  down  medium" in line
    assert "too short" in line
    assert len(line) < 120
    log.unlink()
    assert "(gone)" in run("feedback", "list").stdout


def test_no_log() -> None:
    """Without a log there is nothing to mark, and no file is created."""
    assert refused("feedback", "up").startswith("there is no log yet")
    assert not feedback_path().exists()


def test_no_answer(log: Path) -> None:
    """A log without any answer of `tiered` is an error."""
    assert refused("feedback", "down").startswith("the log has no answer from tiered yet")


def test_unknown_answers(log: Path) -> None:
    """An id that is not in the log, or of another model's answer, is an error."""
    log_answer(log)
    add(log, [turn(id="zz") | {"model": "gpt-4o-mini"}])
    assert refused("feedback", "up", "yy").startswith("the log has no answer with the id yy")
    assert refused("feedback", "up", "zz").startswith("zz was answered by gpt-4o-mini directly")
