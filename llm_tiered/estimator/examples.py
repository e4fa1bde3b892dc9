"""The log, the user's marks and evaluations → examples to learn from."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..log.record import ESCALATED
from .features import measure
from .model import extras
from .refit import Example

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..log.answers import LoggedAnswer, LoggedPrompt
    from ..log.feedback import Mark
    from ..log.signals import Signal

CHECK_FAILED, CHECK_PASSED, SIGNAL = 0.5, 0.25, 0.25
"""Weights of examples from automatic checks, and from what the user did after an answer. A check
knows less than the user, and least about an answer that passed; a question may be asked again for
other reasons."""

# What `llm tiered eval` puts after the name of a suite, for its results.
_RESULTS = ".results.jsonl"


class Examples:
    """Examples, and how many there are of each kind.

    `highest` is the highest complexity of each tier that has another tier above it. Nothing is
    learned from answers of the last tier: no other tier could have done better. Examples of the
    same prompt are in one group wherever they come from, and so are those of a conversation.
    """

    def __init__(self, highest: Mapping[str, int]) -> None:
        self.examples: list[Example] = []
        self.counts: Counter[str] = Counter()
        self._highest = highest
        self._groups: dict[str, str] = {}

    def add_answer(
        self, answer: LoggedAnswer, mark: Mark | None, signal: Signal | None = None
    ) -> None:
        """Add what is known about an answer.

        That is the user's mark, otherwise what the user did, otherwise the result of a check.
        """
        for attempt in answer.attempts:
            reason = attempt.reason or ""
            if attempt.outcome == "failed" and reason.startswith(ESCALATED):
                self._add_attempt(answer, attempt.tier, 1.0, CHECK_FAILED, "escalated")
            elif attempt.outcome == "ok" and mark:
                kind = "good" if mark.verdict == "up" else "not good"
                failed = float(mark.verdict == "down")
                self._add_attempt(answer, attempt.tier, failed, 1.0, kind)
            elif attempt.outcome == "ok" and signal and attempt.tier in self._highest:
                self._add_attempt(answer, attempt.tier, 1.0, SIGNAL, signal)
            elif attempt.outcome == "ok" and answer.checked and not reason:
                self._add_attempt(answer, attempt.tier, 0.0, CHECK_PASSED, "passed")

    def add_evaluation(self, suite: Path) -> None:
        """Add the scores that `llm tiered eval` wrote beside a suite. Raises RequestError."""
        if suite.name.endswith(_RESULTS):
            raise RequestError(
                f"{suite} has the results of a suite",
                fix=f"name the suite itself, such as {suite.name.removesuffix(_RESULTS)}.jsonl",
            )
        results = suite.with_suffix(_RESULTS)
        rows = _json_lines(suite)
        for number, result in _json_lines(results).items():
            try:
                row = rows[result["line"]]
                prompt, system = row["prompt"], row.get("system") or ""
                tier, failed = result["tier"], 1 - float(result["score"])
            except (LookupError, TypeError, ValueError):
                raise RequestError(
                    f"{results}, line {number}: not a result for {suite}",
                    fix=f"llm tiered eval {suite}",
                ) from None
            extra = _extra_steps(len(prompt) + len(system), 0, 0, schema=bool(row.get("schema")))
            self._add(prompt, None, tier, failed, 1.0, extra, "evaluated")

    def _add_attempt(
        self, answer: LoggedAnswer, tier: str, failed: float, weight: float, kind: str
    ) -> None:
        prompt = answer.prompt
        self._add(prompt.text, answer.thread, tier, failed, weight, extra_steps(prompt), kind)

    def _add(  # noqa: PLR0913, PLR0917 - everything that an example has
        self,
        prompt: str,
        thread: str | None,
        tier: str,
        failed: float,
        weight: float,
        extra: float,
        kind: str,
    ) -> None:
        if tier not in self._highest:
            self.counts["last tier"] += 1
            return
        group = self._groups.setdefault(prompt, thread or prompt)
        self.counts[kind] += 1
        self.examples.append(
            Example(measure(prompt), group, failed, weight, self._highest[tier], extra)
        )


def extra_steps(prompt: LoggedPrompt) -> float:
    """Return the steps of complexity for what came with a prompt."""
    return _extra_steps(prompt.characters, prompt.attachments, prompt.tools, schema=prompt.schema)


def _extra_steps(characters: int, attachments: int, tools: int, *, schema: bool) -> float:
    return sum(steps for steps, _ in extras(characters, attachments, tools, schema=schema))


def _json_lines(path: Path) -> dict[int, dict[str, Any]]:
    """Return the objects of a JSONL file by their line numbers, from 1."""
    try:
        # Not splitlines: an answer may contain other line separators unescaped.
        lines = path.read_text("utf-8").split("\n")
        return {number: json.loads(line) for number, line in enumerate(lines, 1) if line.strip()}
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise RequestError(f"{path} is not JSONL: {error}") from None
