"""What is known of the quality of answers: marks, checks, evaluations, repeated prompts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.log import feedback
from tests.cli.commands import refused, run_json
from tests.make_log import MODELS, attempt
from tests.replay.logs import HARD, add_request, said

if TYPE_CHECKING:
    from pathlib import Path

WIDER = ("--set", "tiers.medium.complexity=1-10")
WEAK = attempt("small", MODELS["small"], "escalated: it repeats itself")


def known(*args: str) -> tuple[Any, Any, int]:
    """What is known of both models, as kinds and mean, and how many the other answered before."""
    quality = run_json("replay", *WIDER, *args)["quality"]
    before, after = (
        (quality[side]["kinds"], quality[side]["mean"]) for side in ("before", "after")
    )
    return before, after, quality["answered_before"]


NOTHING: Any = ({}, None)


def test_nothing_is_known_of_most(log: Path) -> None:
    """An answer that nobody complained about is not known to be good."""
    add_request(log, "1", **said("small", 2))
    assert known() == (NOTHING, NOTHING, 0)


def test_marks(log: Path) -> None:
    """A mark is on the model that answered, and an answer from the cache has that of the first."""
    add_request(log, "1", **said("small", 2))
    add_request(log, "2", **said("small", 2), record={"cached_from": "1"})
    add_request(log, "3", **said("small", 2))
    feedback.set_mark("1", "up")
    feedback.set_mark("3", "down")
    assert known() == (({"marked": 2}, 0.5), NOTHING, 0)


def test_answers_by_a_fallback(log: Path) -> None:
    """If the model that it moves to has answered it, the mark says something about that model."""
    tried = [attempt("small", MODELS["small"], "no room"), attempt("medium", MODELS["medium"])]
    add_request(log, "1", **said("small", 2), attempts=tried)
    feedback.set_mark("1", "up")
    assert known() == (NOTHING, ({"marked": 1}, 1.0), 1)


def test_checks(log: Path) -> None:
    """A weak answer was escalated; one that was checked and shown had passed."""
    tried = [WEAK, attempt("medium", MODELS["medium"])]
    checked = {"escalates": True}
    add_request(log, "1", **said("small", 2), attempts=tried, record=checked)
    add_request(log, "2", HARD, **said("small", 2), record=checked)
    assert known() == (({"checked": 2}, 0.5), ({"checked": 1}, 1.0), 1)


def test_a_mark_says_more_than_a_check(log: Path) -> None:
    """Of one answer, only what says most is counted."""
    add_request(log, "1", **said("small", 2), record={"escalates": True})
    feedback.set_mark("1", "down")
    assert known() == (({"marked": 1}, 0.0), NOTHING, 0)


def test_repeated_prompts(log: Path) -> None:
    """What is known of another answer of that model to the same prompt counts, once."""
    add_request(log, "1", HARD, **said("medium", 5))
    add_request(log, "2", HARD, **said("small", 2))
    add_request(log, "3", HARD, **said("small", 2))
    feedback.set_mark("1", "down")
    feedback.set_mark("2", "up")
    assert known() == (({"marked": 1}, 1.0), ({"marked": 1}, 0.0), 2)
    difference = run_json("replay", *WIDER)["quality"]["difference"]
    assert (difference["rows"], difference["mean"], difference["verdict"]) == (1, -1, "too few")


def test_evaluations(log: Path, tmp_path: Path) -> None:
    """The scores of a suite count for the same prompt and model."""
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps({"prompt": HARD, "contains": "3"}) + "\n", "utf-8")
    add_request(log, "1", HARD, **said("small", 2))
    results = [
        {"line": 1, "tier": tier, "model": MODELS[tier], "score": score}
        for tier, score in {"small": 0.25, "medium": 1.0, "cloud": 1.0}.items()
    ]
    lines = [json.dumps(result) for result in results]
    (tmp_path / "suite.results.jsonl").write_text("\n".join(lines), "utf-8")
    assert known("--eval", str(suite)) == (({"evaluated": 1}, 0.25), ({"evaluated": 1}, 1.0), 0)
    (tmp_path / "suite.results.jsonl").write_text('{"line": 9}', "utf-8")
    assert "line 1: not a result for" in refused("replay", "--eval", str(suite))


def test_intervals(log: Path) -> None:
    """The interval is Wilson's: after ten good answers of ten, one in four may be bad."""
    for number in range(10):
        add_request(log, str(number), **said("small", 2))
        feedback.set_mark(str(number), "up")
    [move] = run_json("replay", *WIDER)["moves"]
    before = move["quality"]["before"]
    assert (before["known"], before["mean"]) == (10, 1)
    assert before["interval"] == pytest.approx({"low": 0.7225, "high": 1}, abs=1e-4)


def test_an_escalation_is_no_comparison(log: Path) -> None:
    """Only weak answers have a second one: comparing the two would favour the other model."""
    tried = [WEAK, attempt("medium", MODELS["medium"])]
    add_request(log, "1", **said("small", 2), attempts=tried, record={"escalates": True})
    assert known()[:2] == (({"checked": 1}, 0.0), ({"checked": 1}, 1.0))
    assert run_json("replay", *WIDER)["quality"]["difference"] is None
