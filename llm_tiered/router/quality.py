"""An answer → why it is too weak, judged by cheap signals. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import json_schema
from ..errors import IncompleteAnswer, RequestError, SchemaMiss
from ..log.record import ESCALATED
from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

# Mean natural log-probability of an answer's tokens, and mean of the lowest tenth of them, below
# which the model was guessing: of 30 answers of SmolLM2-135M at temperature 0, five wrong ones and
# no right one lie below either (python -m tests.router.measure_quality).
MEAN_LOGPROB = -0.9
DECILE_LOGPROB = -2.3

# An answer of at least ENOUGH_WORDS words counts as looping if more than REPEATED of its
# sequences of SEQUENCE words occurred earlier in it.
SEQUENCE = 4
ENOUGH_WORDS = 40
REPEATED = 0.5

# Characters at the beginning of an answer in which a refusal is looked for.
BEGINNING = 200
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)(?: really| very)? sorry,? (?:but )?(?:i )?"
    r"(?:can(?:no|')t|am (?:not able|unable))"
    r"|i (?:can(?:no|')t|won't|am (?:not able|unable) to) (?:help|assist|answer|provide|comply"
    r"|fulfil|do that|discuss)"
    r"|as an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|i (?:don't|do not) (?:know|have (?:enough|the) information))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Weakness:
    """Why an answer is too weak, and what to tell the model if a second try may help."""

    reason: str
    correction: str | None = None


def judge(text: str, facts: Mapping[str, Any], schema: Mapping[str, Any] | None) -> Weakness | None:
    """What is wrong with an answer, or None if it looks fine.

    `facts` is what a local model records in its response_json; a signal that is missing there is
    not judged.
    """
    answer = text.strip()
    if not answer:
        return Weakness("the answer is empty")
    if facts.get("finish_reason") == "length":
        return Weakness("the answer is cut off at max_tokens")
    if schema is not None:
        try:
            json_schema.validate(answer, schema)
        except RequestError as error:
            return Weakness(error.message, correction(error.message, schema))
        return _unsure(facts)
    if _REFUSAL.search(answer[:BEGINNING].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")):
        return Weakness("the answer is a refusal")
    share = repetition(answer)
    if share > REPEATED:
        return Weakness(f"the answer repeats itself ({share:.0%})")
    return _unsure(facts)


def problem_with_answer(
    text: str, facts: Mapping[str, Any], schema: Mapping[str, Any] | None
) -> Problem | None:
    """Why a complete answer should escalate, or None if it may be shown."""
    weakness = judge(text, facts, schema)
    if weakness is None:
        return None
    return Problem(
        ESCALATED + weakness.reason,
        escalates=True,
        usable=True,
        correction=weakness.correction,
    )


def problem_with_attempt(
    problem: Problem, error: Exception, text: str, schema: Mapping[str, Any] | None
) -> Problem:
    """The problem of a checked attempt that raised an error after this much text.

    An answer that is not whole, or does not fit the schema, escalates like a weak one.
    """
    if not isinstance(error, (IncompleteAnswer, RequestError)):
        return problem
    retry = correction(problem.reason, schema) if text and schema else None
    return replace(problem, reason=ESCALATED + problem.reason, escalates=True, correction=retry)


def corrected(
    problem: Problem, error: Exception, text: str, schema: Mapping[str, Any] | None
) -> Problem:
    """The problem of any attempt: an answer that does not fit the schema is given back once."""
    if not (text and schema and isinstance(error, SchemaMiss)):
        return problem
    return replace(problem, correction=correction(problem.reason, schema))


def correction(problem: str, schema: Mapping[str, Any]) -> str:
    """What to tell a model whose JSON does not fit the schema, which it may never have seen."""
    form = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return f"{problem}. Answer again, with nothing but JSON that fits this schema: {form}"


def repetition(text: str) -> float:
    """The share, from 0 to 1, of the four-word sequences that occurred earlier in the text."""
    words = text.lower().split()
    if len(words) < ENOUGH_WORDS:
        return 0.0
    sequences = [tuple(words[at : at + SEQUENCE]) for at in range(len(words) - SEQUENCE + 1)]
    return 1 - len(set(sequences)) / len(sequences)


def _unsure(facts: Mapping[str, Any]) -> Weakness | None:
    for name, label, bar in (
        ("mean_logprob", "mean", MEAN_LOGPROB),
        ("decile_logprob", "lowest tenth", DECILE_LOGPROB),
    ):
        value = facts.get(name)
        if value is not None and value < bar:
            return Weakness(f"the model is unsure (log-probability {value:.1f}, {label})")
    return None
