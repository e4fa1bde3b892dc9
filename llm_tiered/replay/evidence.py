"""What is known of the quality of answers: of those in the log, and of those by another model.

Known are the user's marks, checks of local answers (weak ones were escalated), and the scores of
evaluations. An answer from the cache is the answer that it repeats. Nothing is known of an answer
just because nobody complained.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ..costs.prices import place_of
from ..errors import RequestError
from ..log.database import has_table
from ..log.record import ESCALATED, Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ..log.feedback import Mark
    from .again import Replayed

# The first of them counts.
Kind: TypeAlias = Literal["marked", "evaluated", "checked"]
KINDS: tuple[Kind, ...] = ("marked", "evaluated", "checked")

# Prompts that several models have answered, each with all that was said before it.
_REPEATED = """
select id, parent_message_hash, resolved_model, response_json from turns
where model = 'tiered' and parent_message_hash in (
    select parent_message_hash from turns
    where model = 'tiered' and parent_message_hash is not null and resolved_model is not null
    group by parent_message_hash having count(distinct resolved_model) > 1
) order by id
"""


class AnswerEvidence(NamedTuple):
    """How good an answer is, from 0 to 1, and how that is known; `answer` tells answers apart.

    `selected` is whether there is this answer only because another one was weak.
    """

    score: float
    kind: Kind
    answer: str
    selected: bool = False


@dataclass
class Known:
    """What is known beside the log's own turns.

    `marks` are by the ids of turns, `scores` of evaluations by prompt and model, and `repeated` the
    answers to a prompt by its hash and then by model, with what is known of each.
    """

    marks: Mapping[str, Mark] = field(default_factory=dict)
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    repeated: dict[str, dict[str, list[AnswerEvidence]]] = field(default_factory=dict)

    def of_model(
        self, replayed: Replayed, model: str, model_id: Callable[[str], str]
    ) -> AnswerEvidence | None:
        """Return what is known of a model's answer to the same prompt."""
        turn = replayed.request.turn
        known: list[AnswerEvidence] = []
        if turn.resolved_model == model:
            escalated = any(_was_weak(attempt.reason) for attempt in replayed.record.attempts)
            own = self._of_turn(turn.id, replayed.record, turn.options or {})
            known += [each._replace(selected=escalated) for each in own]
        known += [
            AnswerEvidence(0.0, "checked", f"{turn.id} {model}")
            for attempt in replayed.record.attempts
            if _was_weak(attempt.reason) and model_id(attempt.model) == model
        ]
        known += self._evaluated(replayed, model)
        known += reversed(self.repeated.get(turn.prompt or "", {}).get(model, []))
        # Of the same kind, what is known of its own answer comes first, and then the latest.
        return min(known, key=lambda each: KINDS.index(each.kind), default=None)

    def has_answer(self, replayed: Replayed, model: str) -> bool:
        """Return whether the log has an answer of the model to the same prompt."""
        turn = replayed.request.turn
        return turn.resolved_model == model or model in self.repeated.get(turn.prompt or "", {})

    def _evaluated(self, replayed: Replayed, model: str | None) -> Iterable[AnswerEvidence]:
        if not self.scores or not model or not replayed.request.turn.messages:
            return
        key = (replayed.request.text, model)
        if key in self.scores:
            yield AnswerEvidence(self.scores[key], "evaluated", f"{model}: {key[0]}")

    def _of_turn(
        self, id_: str, record: Record, options: Mapping[str, Any]
    ) -> Iterable[AnswerEvidence]:
        answer = record.cached_from or id_
        for mark in (self.marks.get(id_), self.marks.get(answer)):
            if mark:
                yield AnswerEvidence(float(mark.verdict == "up"), "marked", answer)
        checked = options.get("escalate") if record.escalates is None else record.escalates
        last = record.attempts[-1] if record.attempts else None
        if (
            checked
            and last
            and place_of(last.model, record.place) != "cloud"
            and not record.cached_from
        ):
            # A weak answer is shown only if no higher tier answered; then there is a reason.
            yield AnswerEvidence(float(not last.reason), "checked", answer)

    def add_repeated(self, database: sqlite3.Connection) -> None:
        """Add the prompts of the log that several models have answered."""
        if not has_table(database, "turns"):
            return
        repeated: defaultdict[str, dict[str, list[AnswerEvidence]]] = defaultdict(dict)
        for id_, prompt, model, response_json in database.execute(_REPEATED):
            try:
                record = Record.from_json(json.loads(response_json))
            except (ValueError, TypeError, RecursionError):
                record = None
            if record and model:
                answers = repeated[prompt].setdefault(model, [])
                answers += self._of_turn(id_, record, {})
        self.repeated = dict(repeated)

    def add_evaluation(self, suite: Path) -> None:
        """Add the scores that `llm tiered eval` wrote beside a suite. Raises RequestError."""
        results = suite.with_suffix(".results.jsonl")
        rows = _json_lines(suite)
        for number, result in _json_lines(results).items():
            try:
                prompt = rows[result["line"]]["prompt"]
                self.scores[str(prompt), str(result["model"])] = float(result["score"])
            except (LookupError, TypeError, ValueError):
                raise RequestError(
                    f"{results}, line {number}: not a result for {suite}",
                    fix=f"llm tiered eval {suite}",
                ) from None


def _was_weak(reason: str | None) -> bool:
    return (reason or "").startswith(ESCALATED)


def _json_lines(path: Path) -> dict[int, Any]:
    """The values of a JSONL file by their line numbers, from 1."""
    try:
        lines = path.read_text("utf-8").split("\n")
        return {number: json.loads(line) for number, line in enumerate(lines, 1) if line.strip()}
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise RequestError(f"{path} is not JSONL: {error}") from None
