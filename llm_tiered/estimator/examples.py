"""What the log, the user's marks and evaluations say of prompts → examples to learn from."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..log.record import ESCALATED
from .features import measure
from .model import burdens
from .refit import Example

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..log.answers import LoggedAnswer, LoggedPrompt
    from ..log.feedback import Mark

# A check knows less than the user, and of an answer that it lets pass it knows the least.
CHECK_FAILED, CHECK_PASSED = 0.5, 0.25


class Examples:
    """Examples, and how many there are of each kind.

    `highest` is the highest complexity of each tier that has another one above it. Of an answer
    of the last tier nothing is learned: whatever it was like, no other tier would have been
    better. The same prompt is in one group wherever it comes from, and so is a conversation.
    """

    def __init__(self, highest: Mapping[str, int]) -> None:
        self.found: list[Example] = []
        self.counts: Counter[str] = Counter()
        self._highest = highest
        self._groups: dict[str, str] = {}

    def add_answer(self, answer: LoggedAnswer, mark: Mark | None) -> None:
        """Add what is known of an answer: the user's mark, or else what a check said."""
        for attempt in answer.attempts:
            reason = attempt.reason or ""
            if attempt.outcome == "failed" and reason.startswith(ESCALATED):
                self._add_of(answer, attempt.tier, 1.0, CHECK_FAILED, "escalated")
            elif attempt.outcome == "ok" and mark:
                kind = "good" if mark.verdict == "up" else "not good"
                self._add_of(answer, attempt.tier, float(mark.verdict == "down"), 1.0, kind)
            elif attempt.outcome == "ok" and answer.checked and not reason:
                self._add_of(answer, attempt.tier, 0.0, CHECK_PASSED, "passed")

    def add_evaluation(self, suite: Path) -> None:
        """Add the scores that `llm tiered eval` left beside a suite. Raises RequestError."""
        results = suite.with_suffix(".results.jsonl")
        rows = _lines(suite)
        for number, score in _lines(results).items():
            try:
                row = rows[score["line"]]
                prompt, system = row["prompt"], row.get("system") or ""
                tier, failed = score["tier"], 1 - float(score["score"])
            except (LookupError, TypeError, ValueError):
                raise RequestError(
                    f"{results}, line {number}: this is no result for {suite}",
                    fix=f"llm tiered eval {suite}",
                ) from None
            schema = bool(row.get("schema"))
            burden = _burden(len(prompt) + len(system), 0, 0, schema=schema)
            self._add(prompt, None, tier, failed, 1.0, burden, "evaluated")

    def _add_of(
        self, answer: LoggedAnswer, tier: str, failed: float, weight: float, kind: str
    ) -> None:
        asked = answer.prompt
        self._add(asked.text, answer.thread, tier, failed, weight, burden(asked), kind)

    def _add(  # noqa: PLR0913, PLR0917 - what an example has
        self,
        prompt: str,
        thread: str | None,
        tier: str,
        failed: float,
        weight: float,
        burden: float,
        kind: str,
    ) -> None:
        if tier not in self._highest:
            self.counts["last tier"] += 1
            return
        group = self._groups.setdefault(prompt, thread or prompt)
        self.counts[kind] += 1
        self.found.append(
            Example(measure(prompt), group, failed, weight, self._highest[tier], burden)
        )


def burden(asked: LoggedPrompt) -> float:
    """The steps of complexity of what came with a prompt."""
    return _burden(asked.characters, asked.attachments, asked.tools, schema=asked.schema)


def _burden(characters: int, attachments: int, tools: int, *, schema: bool) -> float:
    return sum(steps for steps, _ in burdens(characters, attachments, tools, schema=schema))


def _lines(path: Path) -> dict[int, dict[str, Any]]:
    """The objects of a JSONL file by their lines, from 1."""
    try:
        # Not splitlines: an answer may hold other ends of lines as they are.
        lines: Sequence[str] = path.read_text("utf-8").split("\n")
        return {number: json.loads(line) for number, line in enumerate(lines, 1) if line.strip()}
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise RequestError(f"{path} is no JSONL: {error}") from None
