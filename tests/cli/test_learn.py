"""`llm tiered learn`: what it learns and prints, and how to go back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.estimator import current, estimate, learned
from llm_tiered.estimator.model import shipped
from llm_tiered.log import feedback
from llm_tiered.paths import learned_path
from tests.cli.commands import refused, run, run_json
from tests.log.answering import log_answer
from tests.make_log import empty_log

if TYPE_CHECKING:
    from pathlib import Path

NUMBER = 24
SECRET = "zanzibar"


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log of llm."""
    empty_log(logs)
    return logs


def ask(log: Path, number: int, *, hard: bool) -> str:
    """Log a prompt of a user for whom sums are easy and plays are hard."""
    filler = "The garden is green. " * (number % 4)
    text = f"Who wrote the {SECRET} play {number}?" if hard else f"What is {number} + 12 * 5 = x?"
    return log_answer(log, filler + text)


@pytest.fixture
def marked(log: Path) -> Path:
    """A log in which all answers are marked, the hard ones down."""
    for number in range(NUMBER):
        hard = number % 2 == 0
        feedback.set_mark(ask(log, number, hard=hard), "down" if hard else "up", SECRET)
    return log


def test_nothing_yet() -> None:
    """Without a log nothing changes, and the output says what learning needs."""
    output = run("learn").stdout
    assert "0 answers to learn from: none" in output
    assert "too few answers: learning needs 5 good ones and 5 that were not" in output
    assert "nothing is changed" in output
    assert not learned_path().exists()


def test_learns(marked: Path) -> None:
    """The output has the examples, the improvement and the changes."""
    output = run("learn").stdout
    assert "24 answers to learn from: 12 marked up, 12 marked down" in output
    assert "on unseen prompts" in output
    assert "move to another tier" in output
    assert f"written to {learned_path()}; `llm tiered learn --undo` goes back" in output
    play = f"Who wrote the {SECRET} play?"
    assert (
        estimate(play, coefficients=current()).complexity
        > estimate(play, coefficients=shipped()).complexity
    )


def test_nothing_of_the_prompts_is_kept(marked: Path) -> None:
    """The file holds numbers, and no word of a prompt or a note."""
    run("learn")
    content = json.loads(learned_path().read_text())
    assert SECRET not in learned_path().read_text()
    assert set(content["learned"]) == {"on", "answers", "prompts", "log_loss", "auc"}


def test_as_json(marked: Path) -> None:
    """With --json everything is there for programs."""
    facts = run_json("learn")
    assert facts["answers"]["good"] == facts["answers"]["not_good"] == 12
    assert facts["verdict"] == "better"
    figure = facts["left_out"]["log_loss"]
    assert figure["gain"] == pytest.approx(figure["shipped"] - figure["learned"])
    assert 0 < figure["low"] <= figure["gain"] <= figure["high"]
    changes = facts["changes"]
    assert changes["prompts"] == NUMBER
    assert changes["up"] + changes["down"] <= NUMBER
    assert {"name", "before", "after"} == set(changes["weights"][0])
    assert facts["written"] == str(learned_path())


def test_dry_run(marked: Path) -> None:
    """A dry run prints the same and changes nothing."""
    output = run("learn", "--dry-run").stdout
    assert "without --dry-run it would be used" in output
    assert current() == shipped()
    assert run_json("learn", "--dry-run")["written"] is None


def test_again(marked: Path) -> None:
    """Learning the same again changes nothing, so that one --undo is enough."""
    run("learn")
    assert "nothing new to learn" in run("learn").stdout
    assert run("learn", "--undo").stdout == "back to the estimate that comes with the package\n"
    assert current() == shipped()


def test_undo(marked: Path) -> None:
    """--undo goes back to the previous learned estimate, then to the package's own."""
    run("learn")
    first = current()
    for number in range(6):
        feedback.set_mark(ask(marked, 100 + number, hard=True), "down")
    run("learn")
    assert current() != first
    assert run("learn", "--undo").stdout.startswith("back to the previous learned estimate")
    assert current() == first
    assert run_json("learn", "--undo") == {"in_force": "package", "path": None}
    assert refused("learn", "--undo") == "nothing has been learned, so there is nothing to undo"


def test_one_kind(log: Path) -> None:
    """Marks of only one kind teach nothing."""
    for number in range(12):
        feedback.set_mark(ask(log, number, hard=True), "down")
    facts = run_json("learn")
    assert (facts["verdict"], facts["changes"], facts["written"]) == ("one kind", None, None)


def test_not_better(log: Path) -> None:
    """Marks that agree with the estimate of the package change nothing; the learned one stays."""
    for number in range(24):
        verdict: feedback.Verdict = "up" if number % 4 else "down"
        feedback.set_mark(log_answer(log, f"Who wrote the play {number} of that year?"), verdict)
    assert "nothing is changed" in run("learn").stdout
    learned.save(shipped()._replace(intercept=0.0), {})
    assert "the learned estimate stays" in run("learn").stdout
    assert current().intercept == 0


def test_escalations(log: Path) -> None:
    """Checked answers are examples without any mark."""
    for number in range(40):
        if number % 2:
            log_answer(log, f"Who wrote play {number}?", "cloud", escalated=("small",))
        else:
            log_answer(log, f"What is {number} + 12 * 5 = x?", escalate=True)
    facts = run_json("learn")
    assert (facts["answers"]["escalated"], facts["answers"]["passed"]) == (20, 20)
    assert facts["verdict"] == "better"


def test_signals(log: Path) -> None:
    """Questions that were asked again are weak marks; the output says so, and --no-signals."""
    for number in range(8):
        first = log_answer(log, f"Who wrote the play {number}?")
        log_answer(log, f"Who wrote the play {number}?")
        with closing(sqlite3.connect(log)) as database, database:
            earlier = "datetime(datetime_utc, '-20 seconds')"
            database.execute(f"update turns set datetime_utc = {earlier} where id = ?", [first])
    output = run("learn").stdout
    assert "8 answers to learn from: 8 asked again" in output
    assert "--no-signals leaves" in output
    assert "0 answers to learn from" in run("learn", "--no-signals").stdout
    assert run_json("learn")["answers"]["asked_again"] == 8


def test_cloud_answers(log: Path) -> None:
    """Marks on answers of the highest tier are counted but teach nothing."""
    for number in range(12):
        feedback.set_mark(
            log_answer(log, f"Why {number}?", "cloud"), "down" if number % 2 else "up"
        )
    output = run("learn").stdout
    assert "0 answers to learn from" in output
    assert "12 can't be used" in output


def test_other_languages(log: Path) -> None:
    """Prompts that the estimate can't judge are counted but teach nothing."""
    for number in range(20):
        text = f"Какая столица Франции и сколько там людей, {number}?"
        feedback.set_mark(log_answer(log, text), "down" if number % 2 else "up")
    facts = run_json("learn")
    assert (facts["thin"], facts["verdict"]) == (20, "too few")
    assert "20 prompts are too short, or in a language that is not supported" in run("learn").stdout


def test_evaluation(tmp_path: Path) -> None:
    """The results of an evaluation are enough; no log is needed."""
    suite, results = tmp_path / "suite.jsonl", tmp_path / "suite.results.jsonl"
    rows: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for line in range(1, 41):
        hard = line % 2 == 0
        text = f"Who wrote play {line}?" if hard else f"What is {line} + 12 * 5 = x?"
        rows.append({"prompt": text, "exact": "x"})
        scores.append({"line": line, "tier": "small", "score": float(not hard)})
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results.write_text("".join(json.dumps(row) + "\n" for row in scores))
    facts = run_json("learn", "--eval", str(suite))
    assert facts["answers"]["evaluated"] == 40
    assert facts["verdict"] == "better"
    assert facts["changes"]["prompts"] == 40


def test_damaged_file(marked: Path) -> None:
    """A damaged file is replaced, and kept for one --undo."""
    learned_path().write_text("{")
    run("learn")
    assert current() != shipped()
    run("learn", "--undo")
    assert learned_path().read_text() == "{"


def test_undo_alone() -> None:
    """--undo can't be combined with other options."""
    assert "--undo can't be combined" in run("learn", "--undo", "--dry-run", code=2).stderr


def test_full_disk(marked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be written is an error of one line."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    assert refused("learn").endswith("estimator.json can't be written: No space left on device")
