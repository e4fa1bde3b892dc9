"""An answer → why it is not good enough, by cheap signals. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..mlx.tokens import structured

if TYPE_CHECKING:
    from collections.abc import Mapping

# Mean natural log-probability of the tokens below which the model was guessing, and the mean of
# the lowest tenth of them: of 30 answers of SmolLM2-135M at temperature 0, five wrong ones and no
# right one lie below either (python -m tests.router.measure_quality).
MEAN_LOGPROB = -0.9
DECILE_LOGPROB = -2.3

# An answer of at least so many words of which more than that share of the sequences of four words
# stood there before goes round in circles.
SEQUENCE = 4
ENOUGH_WORDS = 40
REPEATED = 0.5

# Where an answer begins, in characters.
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
class Verdict:
    """Why an answer is too weak, and what to tell the model if asking again may help."""

    reason: str
    correction: str | None = None


def judge(text: str, facts: Mapping[str, Any], schema: Mapping[str, Any] | None) -> Verdict | None:
    """What is wrong with an answer, or None if nothing is seen.

    `facts` is what a local model says of its answer in response_json; what it does not say is
    not judged.
    """
    said = text.strip()
    if not said:
        return Verdict("the answer is empty")
    if facts.get("finish_reason") == "length":
        return Verdict("the answer is cut off at max_tokens")
    if schema is not None:
        try:
            structured.validate(said, schema)
        except RequestError as error:
            return Verdict(error.message, correction(error.message))
        return _guessed(facts)
    if _REFUSAL.search(said[:BEGINNING].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")):
        return Verdict("the answer is a refusal")
    repeated = repetition(said)
    if repeated > REPEATED:
        return Verdict(f"the answer repeats itself ({repeated:.0%})")
    return _guessed(facts)


def correction(problem: str) -> str:
    """What to tell a model whose JSON does not fit the schema."""
    return f"{problem}. Answer again, with JSON that fits."


def repetition(text: str) -> float:
    """The share, 0 to 1, of the sequences of four words that stood there before."""
    words = text.lower().split()
    if len(words) < ENOUGH_WORDS:
        return 0.0
    sequences = [tuple(words[at : at + SEQUENCE]) for at in range(len(words) - SEQUENCE + 1)]
    return 1 - len(set(sequences)) / len(sequences)


def _guessed(facts: Mapping[str, Any]) -> Verdict | None:
    for name, words, bar in (
        ("mean_logprob", "mean", MEAN_LOGPROB),
        ("decile_logprob", "lowest tenth", DECILE_LOGPROB),
    ):
        value = facts.get(name)
        if value is not None and value < bar:
            return Verdict(f"the model is unsure (log-probability {value:.1f}, {words})")
    return None
