"""What counts as an example, and for how much."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import RequestError
from llm_tiered.estimator.examples import CHECK_FAILED, CHECK_PASSED, Examples
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


def answer(*attempts: tuple[str, str | None], thread: str = "t", **said: Any) -> LoggedAnswer:
    """Give an answer after these attempts; a reason is why one failed."""
    fields: dict[str, Any] = {"text": PROMPT, "characters": 26, "attachments": 0, "tools": 0}
    asked = LoggedPrompt(**fields | said)
    tried = tuple(
        Attempt(tier, MODELS[tier], "failed" if reason else "ok", reason, 12)
        for tier, reason in attempts
    )
    return LoggedAnswer("01a", thread, "", None, attempts[-1][0], tried, False, asked)


def found(given: LoggedAnswer, verdict: Verdict | None = None) -> list[Example]:
    """Give what is learned from one answer, with small and medium below the cloud."""
    examples = Examples({"small": 4, "medium": 7})
    examples.add_answer(given, Mark("01a", verdict, None, "") if verdict else None)
    return examples.found


def plain(**said: Any) -> LoggedAnswer:
    """Give an answer of the small tier."""
    return answer(("small", None), **({"schema": False} | said))


@pytest.mark.parametrize(("verdict", "failed"), [("up", 0.0), ("down", 1.0)])
def test_mark(verdict: Verdict, failed: float) -> None:
    """A mark says whether the tier was good enough."""
    [example] = found(plain(), verdict)
    assert (example.failed, example.weight, example.highest) == (failed, 1.0, 4)
    assert example.measured == measure(PROMPT)


def test_no_mark() -> None:
    """An answer that nobody looked at says nothing."""
    assert found(plain()) == []


@pytest.mark.parametrize("verdict", ["up", "down"])
def test_last_tier(verdict: Verdict) -> None:
    """A mark on an answer of the cloud says nothing of the routing."""
    assert found(answer(("cloud", None), schema=False), verdict) == []


def test_tier_of_before() -> None:
    """A tier that the config no longer has says nothing."""
    examples = Examples({"small": 4})
    examples.add_answer(answer(("medium", None), schema=False), Mark("01a", "down", None, ""))
    assert (examples.found, examples.counts["last tier"]) == ([], 1)


def test_escalated() -> None:
    """Each tier that a weak answer rose from was not enough, and that counts for less."""
    given = answer(("small", WEAK), ("medium", WEAK), ("cloud", None), schema=False)
    highest = [(example.highest, example.failed, example.weight) for example in found(given)]
    assert highest == [(4, 1.0, CHECK_FAILED), (7, 1.0, CHECK_FAILED)]


def test_fell_back() -> None:
    """An attempt that failed for another reason says nothing of the prompt."""
    assert found(answer(("small", "no room"), ("cloud", None), schema=False)) == []


def test_passed() -> None:
    """An answer that was checked and shown counts a little."""
    given = plain()
    [example] = found(LoggedAnswer(**(vars(given) | {"checked": True})))
    assert (example.failed, example.weight) == (0.0, CHECK_PASSED)


def test_mark_before_check() -> None:
    """The user knows better than a check."""
    [example] = found(LoggedAnswer(**(vars(plain()) | {"checked": True})), "down")
    assert (example.failed, example.weight) == (1.0, 1.0)


def test_weak_after_all() -> None:
    """A weak answer that was shown because there was no better one has not passed."""
    last = Attempt("small", MODELS["small"], "ok", "nothing above it answered", 0)
    tried = (Attempt("small", MODELS["small"], "failed", WEAK, 12), last)
    given = LoggedAnswer(**(vars(plain()) | {"attempts": tried, "checked": True}))
    assert [example.failed for example in found(given)] == [1.0]


def test_burden() -> None:
    """What came with the prompt is no fault of its text."""
    given = plain(characters=40_000, attachments=1, schema=True)
    assert found(given, "down")[0].burden > 3
    assert found(plain(), "down")[0].burden == 0


def test_groups() -> None:
    """The turns of a conversation are in one group, and the same prompt is wherever it stands."""
    examples = Examples({"small": 4})
    for thread, prompt in (("a", "One?"), ("a", "Two?"), ("b", "One?"), ("c", "Three?")):
        examples.add_answer(plain(thread=thread, text=prompt), Mark("", "up", None, ""))
    groups = [example.group for example in examples.found]
    assert groups == ["a", "a", "a", "c"]


# Evaluations


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """Write JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_evaluation(tmp_path: Path) -> None:
    """The scores that an evaluation left count in full, by tier and line of the suite."""
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
    one, two = examples.found
    assert (one.measured, one.failed, one.weight, one.highest) == (measure(PROMPT), 1.0, 1.0, 4)
    assert two.failed == pytest.approx(0.3)
    assert two.highest == 7
    assert two.burden > one.burden
    assert examples.counts == {"evaluated": 2, "last tier": 1}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (None, "can't be read"),
        ("{", "no JSONL"),
        ('{"line": 7, "tier": "small", "score": 1}', "line 1: this is no result"),
        ('{"line": 1, "tier": "small", "score": null}', "line 1: this is no result"),
        ("[]", "line 1: this is no result"),
    ],
)
def test_wrong_results(tmp_path: Path, results: str | None, message: str) -> None:
    """Results that are not there, or are none of this suite, are told."""
    suite = write(tmp_path / "suite.jsonl", {"prompt": PROMPT})
    if results is not None:
        (tmp_path / "suite.results.jsonl").write_text(results)
    with pytest.raises(RequestError, match=message):
        Examples({"small": 4}).add_evaluation(suite)
