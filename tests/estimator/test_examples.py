"""Examples from answers, marks and evaluations, and their weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import RequestError
from llm_tiered.estimator.examples import CHECK_FAILED, CHECK_PASSED, SIGNAL, Examples
from llm_tiered.estimator.features import measure
from llm_tiered.log.answers import LoggedAnswer, LoggedPrompt
from llm_tiered.log.feedback import Mark, Verdict
from llm_tiered.log.record import Attempt
from tests.make_log import MODELS

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.estimator.refit import Example

PROMPT = "Who wrote the play Hamlet?"
WEAK = "escalated: the answer is empty"


def answer(*attempts: tuple[str, str | None], thread: str = "t", **fields: Any) -> LoggedAnswer:
    """Return an answer after these attempts, each a tier and the reason why it failed."""
    defaults: dict[str, Any] = {"text": PROMPT, "characters": 26, "attachments": 0, "tools": 0}
    prompt = LoggedPrompt(**defaults | fields)
    attempt_records = tuple(
        Attempt(tier, MODELS[tier], "failed" if reason else "ok", reason, 12)
        for tier, reason in attempts
    )
    return LoggedAnswer("01a", thread, "", None, attempts[-1][0], attempt_records, False, prompt)


def examples_of(answer: LoggedAnswer, verdict: Verdict | None = None) -> list[Example]:
    """Return the examples from one answer, where small and medium are below the cloud."""
    examples = Examples({"small": 4, "medium": 7})
    examples.add_answer(answer, Mark("01a", verdict, None, "") if verdict else None)
    return examples.examples


def plain(**fields: Any) -> LoggedAnswer:
    """Return an answer of the small tier."""
    return answer(("small", None), **({"schema": False} | fields))


@pytest.mark.parametrize(("verdict", "failed"), [("up", 0.0), ("down", 1.0)])
def test_mark(verdict: Verdict, failed: float) -> None:
    """A mark says whether the answer of the tier was good enough."""
    [example] = examples_of(plain(), verdict)
    assert (example.failed, example.weight, example.highest) == (failed, 1.0, 4)
    assert example.measures == measure(PROMPT)


def test_no_mark() -> None:
    """An answer without a mark or a check gives no example."""
    assert examples_of(plain()) == []


@pytest.mark.parametrize("verdict", ["up", "down"])
def test_last_tier(verdict: Verdict) -> None:
    """A mark on an answer of the last tier gives no example."""
    assert examples_of(answer(("cloud", None), schema=False), verdict) == []


def test_removed_tier() -> None:
    """An answer of a tier that the config no longer has gives no example."""
    examples = Examples({"small": 4})
    examples.add_answer(answer(("medium", None), schema=False), Mark("01a", "down", None, ""))
    assert (examples.examples, examples.counts["last tier"]) == ([], 1)


def test_escalated() -> None:
    """Each tier whose weak answer was escalated failed, with less weight than a mark."""
    escalated = answer(("small", WEAK), ("medium", WEAK), ("cloud", None), schema=False)
    examples = examples_of(escalated)
    assert [(each.highest, each.failed, each.weight) for each in examples] == [
        (4, 1.0, CHECK_FAILED),
        (7, 1.0, CHECK_FAILED),
    ]


def test_fell_back() -> None:
    """An attempt that failed for another reason gives no example."""
    assert examples_of(answer(("small", "no room"), ("cloud", None), schema=False)) == []


def test_passed() -> None:
    """An answer that passed a check is a success of little weight."""
    [example] = examples_of(LoggedAnswer(**(vars(plain()) | {"checked": True})))
    assert (example.failed, example.weight) == (0.0, CHECK_PASSED)


def test_mark_before_check() -> None:
    """The user's mark replaces the result of the check."""
    [example] = examples_of(LoggedAnswer(**(vars(plain()) | {"checked": True})), "down")
    assert (example.failed, example.weight) == (1.0, 1.0)


def test_signal() -> None:
    """What the user did replaces the result of a check, but not a mark, and has little weight."""
    checked = LoggedAnswer(**(vars(plain()) | {"checked": True}))
    for mark, failed, weight in (
        (None, 1.0, SIGNAL),
        (Mark("01a", "up", None, ""), 0.0, 1.0),
    ):
        examples = Examples({"small": 4, "medium": 7})
        examples.add_answer(checked, mark, "asked again")
        [example] = examples.examples
        assert (example.failed, example.weight) == (failed, weight)


def test_signal_about_the_last_tier() -> None:
    """What the user did after an answer of the last tier teaches nothing, and is not counted."""
    examples = Examples({"small": 4})
    examples.add_answer(answer(("cloud", None), schema=False), None, "asked again")
    assert (examples.examples, examples.counts) == ([], {})


def test_weak_after_all() -> None:
    """A weak answer that was shown because no other tier answered has not passed."""
    last = Attempt("small", MODELS["small"], "ok", "no higher tier answered", 0)
    attempts = (Attempt("small", MODELS["small"], "failed", WEAK, 12), last)
    shown = LoggedAnswer(**(vars(plain()) | {"attempts": attempts, "checked": True}))
    assert [example.failed for example in examples_of(shown)] == [1.0]


def test_extra_steps() -> None:
    """An example has the steps of complexity for what came with the prompt."""
    loaded = plain(characters=40_000, attachments=1, schema=True)
    assert examples_of(loaded, "down")[0].extra_steps > 3
    assert examples_of(plain(), "down")[0].extra_steps == 0


def test_groups() -> None:
    """The turns of a conversation are in one group, and so is the same prompt everywhere."""
    examples = Examples({"small": 4})
    for thread, prompt in (("a", "One?"), ("a", "Two?"), ("b", "One?"), ("c", "Three?")):
        examples.add_answer(plain(thread=thread, text=prompt), Mark("", "up", None, ""))
    groups = [example.group for example in examples.examples]
    assert groups == ["a", "a", "a", "c"]


# Evaluations


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """Write JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_evaluation(tmp_path: Path) -> None:
    """The results of an evaluation count in full, by tier and line of the suite."""
    suite = write(
        tmp_path / "suite.jsonl",
        {"prompt": PROMPT, "exact": "Shakespeare"},
        {"prompt": "Why?", "system": "x" * 8000, "judge": "well explained"},
    )
    write(
        tmp_path / "suite.results.jsonl",
        {"line": 1, "tier": "small", "score": 0.0},
        {"line": 2, "tier": "medium", "score": 0.7},
        {"line": 2, "tier": "cloud", "score": 1.0},
    )
    examples = Examples({"small": 4, "medium": 7})
    examples.add_evaluation(suite)
    one, two = examples.examples
    assert (one.measures, one.failed, one.weight, one.highest) == (measure(PROMPT), 1.0, 1.0, 4)
    assert two.failed == pytest.approx(0.3)
    assert two.highest == 7
    assert two.extra_steps > one.extra_steps
    assert examples.counts == {"evaluated": 2, "last tier": 1}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (None, "can't be read"),
        ("{", "is not JSONL"),
        ('{"line": 7, "tier": "small", "score": 1}', "line 1: not a result for"),
        ('{"line": 1, "tier": "small", "score": null}', "line 1: not a result for"),
        ("[]", "line 1: not a result for"),
    ],
)
def test_wrong_results(tmp_path: Path, results: str | None, message: str) -> None:
    """Results that are missing, or of another suite, are an error with the file and the line."""
    suite = write(tmp_path / "suite.jsonl", {"prompt": PROMPT})
    if results is not None:
        (tmp_path / "suite.results.jsonl").write_text(results)
    with pytest.raises(RequestError, match=message):
        Examples({"small": 4}).add_evaluation(suite)


def test_results_instead_of_the_suite(tmp_path: Path) -> None:
    """Whoever names the results is told to name the suite."""
    results = write(tmp_path / "suite.results.jsonl", {"line": 1, "tier": "small", "score": 1})
    with pytest.raises(RequestError) as refused:
        Examples({"small": 4}).add_evaluation(results)
    assert refused.value.fix == "name the suite itself, such as suite.jsonl"
