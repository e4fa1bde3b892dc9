"""Text → the few numbers that say how hard it is, as far as a text can.

More of them (formulas, brackets, mathematical words and so on) help on kinds of prompts that the
model is fitted to, but not on others.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import log, log1p
from typing import NamedTuple

from .asks import asks_for, has_code
from .evidence import OPENERS, evidence
from .patterns import compiled, count, word_set
from .talk import ENDS, without_talk

SCANNED = 8_000
"""Number of characters that are scanned, half of them at the beginning and half at the end."""

FEATURES = ("length", "quantities", "negations", "open", "program")
"""The names of the features, in order. `open` is 1 if there are no options to choose from, and
`program` is 1 if a program is asked for, or there is one in the text."""

STEPS = {"a proof": 5.0, "a design": 3.0}
"""Steps of complexity that were chosen by hand: hardly any prompt in the data that the model is
fitted on asks for one of these."""

_WORD = r"[a-z\u00df-\u00f6\u00f8-\u024f\u1e01-\u1eff]+(?:['\u2019][a-z]+)?"
_NUMBER = r"[0-9]+(?:[.,][0-9]+)*"
_NUMBER_WORDS = word_set(
    """
    two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
    thousand million billion half halves third thirds quarter quarters twice thrice double
    triple dozen pair percent
    """
)
_NEGATIONS = word_set(
    """
    not no never none neither nor except cannot without least false incorrect unlikely don't
    doesn't didn't isn't aren't wasn't can't won't
    """
)
_OPTION = r"(?m)^[ \t]*[(\[]?[a-j][.):\]][ \t]"


class TextMeasures(NamedTuple):
    """The measures of a text.

    `values` are the features, in the order of FEATURES. `evidence` is 0 to 1, and 0 if nothing in
    the text can be read. `asks` are the names of what the text asks for. `counts` are the numbers
    behind the features, and the number of words in the whole text. `talks` is whether the text says
    anything about its own difficulty, which is left out.
    """

    values: tuple[float, ...]
    evidence: float
    asks: tuple[str, ...]
    counts: dict[str, int]
    talks: bool

    @property
    def steps(self) -> float:
        """The steps of complexity for what the text asks for, beside the features."""
        return sum(STEPS.get(name, 0.0) for name in self.asks)


def measure(text: str) -> TextMeasures:
    """Measure a text, which may be any string, including noise and lone surrogates."""
    scanned = text
    if len(text) > SCANNED:
        scanned = f"{text[: SCANNED // 2]}\n{text[-SCANNED // 2 :]}"
    return _measured(scanned, len(text))


# Every turn of a conversation measures the earlier ones again.
@lru_cache(maxsize=64)
def _measured(scanned: str, characters: int) -> TextMeasures:
    lower = scanned.lower()
    words = Counter(compiled(_WORD).findall(lower))
    rest = without_talk(lower, set(words), OPENERS)
    if rest is not lower:
        words = Counter(compiled(_WORD).findall(rest))
    numbers = count(_NUMBER, rest)
    tokens = sum(words.values()) + numbers
    # The part that was not scanned is assumed to be like the rest.
    scale = max(1.0, characters / SCANNED)
    ends = rest if len(rest) <= 2 * ENDS else f"{rest[:ENDS]}\n{rest[-ENDS:]}"
    asks = asks_for(ends, set(words))
    code = has_code(rest)
    counts = {
        "words": round(len(rest.split()) * scale),
        "quantities": numbers + _number_of(words, _NUMBER_WORDS),
        "negations": _number_of(words, _NEGATIONS),
        "options": count(_OPTION, rest),
    }
    return TextMeasures(
        values=(
            # The 4 keeps a single word from making much difference in a short text.
            log(tokens * scale + 4),
            # A single number, as in a date, is not a calculation.
            log(max(1, counts["quantities"])),
            log1p(counts["negations"]),
            float(counts["options"] < 2),
            float("a program" in asks or code),
        ),
        evidence=evidence(rest, words, tokens),
        asks=(*asks, *(["code"] if code else [])),
        counts=counts,
        talks=rest is not lower,
    )


def _number_of(words: Counter[str], known: frozenset[str]) -> int:
    return sum(words[word] for word in words.keys() & known)
