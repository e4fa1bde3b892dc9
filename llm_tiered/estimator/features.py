"""Text → numbers that can be counted in it.

Only fixed ranges of characters are used, never the Unicode tables of `re` and `str`, so that the
counts are the same on every version of Python.
"""

from __future__ import annotations

from collections import Counter
from math import log, log1p
from typing import NamedTuple

from .claims import ENDS, without_claims, without_talk
from .intents import OPENERS, intents
from .patterns import compiled, count

SCANNED = 8_000
"""Number of characters that are scanned, half of them at the beginning and half at the end."""

ENOUGH = 8
"""Number of words and numbers that are enough evidence, whatever the text begins with."""

_WORD = r"[a-z\u00df-\u00f6\u00f8-\u024f\u1e01-\u1eff]+(?:['\u2019][a-z]+)?"
_NUMBER = r"[0-9]+(?:[.,][0-9]+)*"
# Letters of scripts that the features can't read. Greek is not among them: it is common in
# formulas, and a text in Greek has no words that count.
_FOREIGN = (
    "[\u0250-\u036f\u0400-\u1dff\u2c00-\u2dff\u3041-\ud7ff\ue000-\ufdff\ufe70-\ufefe\uff66-\uffdc"
    "\U00010000-\U0001cfff\U0001e000-\U0001efff\U00020000-\U0010ffff]"
)
_OPTION_LABEL = r"(?m)^[ \t]*\(?[a-j][.)][ \t]"
# Plus, equals, power and percent; plus-minus, times, divided; root, sum, integral, ≤, ≥, ≠.
_SIGNS = "+=^%\u00b1\u00d7\u00f7\u221a\u2211\u222b\u2264\u2265\u2260"
# These are operators between numbers, and something else in prose.
_BETWEEN_NUMBERS = r"[0-9)] ?[*/<>-](?= ?[0-9a-z(])"
_LATEX = r"\\[a-z]+|\$[^$\n]{1,200}\$|[\^_]\{"
# Degrees and powers, Greek letters, arrows and mathematical operators.
_MATHEMATICAL = "[\u00b0\u00b2\u00b3\u00b9\u03b1-\u03c9\u2190-\u22ff]"
_CODE = (
    *("```", ">>>", "def ", "return ", "import ", "function(", "()", "=>", "->", "=="),
    *(";\n", "{\n", "}\n", "):\n"),
)
_PART = (
    r"(?a)\b(?:statement|scenario|part|step|case|question|problem|assertion|claim|item|task)s?"
    r" \(?(?:[0-9]|[ivx]+\b|[a-e]\b)"
)

_VOCABULARY = {
    "mathematics": """
        solve equation integer integers equal equals sum product probability function polynomial
        matrix vector triangle angle degrees radius area volume derivative integral prime
        divisible divided multiply ratio percent percentage average mean median total number
        numbers remainder factor root square cube compute calculate value digits maximum minimum
        coefficient sequence graph theorem finite group ring field kernel subset set
        """,
    "science": """
        energy mass velocity force acceleration electron electrons proton atom molecule reaction
        solution acid voltage current resistance wavelength frequency temperature pressure mol
        mole molar joule newton equilibrium concentration gas heat charge magnetic electric
        circuit
        """,
    "negations": """
        not no never none neither nor except cannot without least false incorrect unlikely don't
        doesn't didn't isn't aren't wasn't can't won't
        """,
    "conditions": """
        if then therefore because suppose assume given each every all some must only unless
        whether either both hence implies let
        """,
    "explanation": "how why explain describe discuss",
    "variables": "b c d e f g h j k l m n o p q r s t u v w x y z",
    # Nouns that are numbered, as in "statement 2".
    "parts": """
        statement scenario part step case question problem assertion claim item task statements
        scenarios parts steps cases questions problems assertions claims items tasks
        """,
    # Common English words: without any of them, the lists above can't be trusted either.
    "english": """
        the of and is are it to that for with this what which who whom whose when where why
        how you your my me i have has from please not can could would should if be by on do does
        """,
}
_KINDS: dict[str, list[str]] = {}
for _kind, _words in _VOCABULARY.items():
    for _word in _words.split():
        _KINDS.setdefault(_word, []).append(_kind)

# Features that are counts, with the largest number that makes a difference.
_COUNTED = {"notation": 10, "code": 7, "parts": 7, "quotations": 5, "brackets": 7}
# Features that are shares of all words and numbers.
_SHARES = (
    "calculation",
    "variables",
    "mathematics",
    "science",
    "conditions",
    "negations",
    "explanation",
)

FEATURES = ("length", "numbers", *_COUNTED, *_SHARES)
"""The names of the features, in order."""


class TextMeasures(NamedTuple):
    """The measures of a text.

    `values` are the features, in the order of FEATURES. `evidence` is 0 to 1, and 0 if nothing in
    the text can be read. `intents` are steps of complexity with their reasons. `counts` are the
    numbers behind the features; `length` among them is the number of words and numbers in the whole
    text. `claims` is whether the text says anything about its own difficulty. `without_talk` are
    the measures without the sentences that are mostly about it, or None if there are none.
    """

    values: tuple[float, ...]
    evidence: float
    intents: list[tuple[float, str]]
    counts: dict[str, int]
    claims: bool
    without_talk: TextMeasures | None = None


def measure(text: str) -> TextMeasures:
    """Measure a text, which may be any string, including noise and lone surrogates."""
    scanned = text
    if len(text) > SCANNED:
        scanned = f"{text[: SCANNED // 2]}\n{text[-SCANNED // 2 :]}"
    lower = scanned.lower()
    words = Counter(compiled(_WORD).findall(lower))
    known = set(words)
    cleaned = without_claims(lower, known)
    measures = _measure(cleaned, words if cleaned is lower else None, len(text) / SCANNED)
    # In a long text a single sentence hardly matters.
    rest = without_talk(lower, known) if len(lower) <= 2 * ENDS else lower
    return measures._replace(
        claims=cleaned is not lower,
        without_talk=None if rest is lower else _measure(without_claims(rest, known)),
    )


def _measure(text: str, words: Counter[str] | None = None, scale: float = 1.0) -> TextMeasures:
    """Measure a text in lower case; the whole text is `scale` times as long."""
    if words is None:
        words = Counter(compiled(_WORD).findall(text))
    counts = _counts(text, words)
    # The part that was not scanned is assumed to be like the rest.
    length = round(counts["tokens"] * max(1.0, scale))
    ends = text if len(text) <= 2 * ENDS else f"{text[:ENDS]}\n{text[-ENDS:]}"
    return TextMeasures(
        values=_values(counts, length),
        evidence=_evidence(text, words, counts),
        intents=intents(ends, set(words), length),
        counts={**counts, "length": length},
        claims=False,
    )


def _counts(text: str, words: Counter[str]) -> dict[str, int]:
    counts = dict.fromkeys(_VOCABULARY, 0)
    for word in words.keys() & _KINDS.keys():
        for kind in _KINDS[word]:
            counts[kind] += words[word]
    # The letters before the options of a question are not variables.
    if counts["variables"]:
        counts["variables"] = max(0, counts["variables"] - count(_OPTION_LABEL, text))
    counts["numbers"] = count(_NUMBER, text)
    counts["calculation"] = sum(map(text.count, _SIGNS)) + count(_BETWEEN_NUMBERS, text)
    counts["notation"] = count(_LATEX, text) if "\\" in text or "$" in text else 0
    if not text.isascii():
        counts["notation"] += count(_MATHEMATICAL, text)
    counts["code"] = sum(map(text.count, _CODE))
    counts["parts"] = count(_PART, text) if counts["parts"] else 0
    counts["quotations"] = text.count('"') // 2 + text.count("\N{LEFT DOUBLE QUOTATION MARK}")
    counts["brackets"] = text.count("(")
    counts["tokens"] = sum(words.values()) + counts["numbers"]
    return counts


def _values(counts: dict[str, int], length: int) -> tuple[float, ...]:
    return (
        # The 8 keeps a single word from making much difference in a short text.
        log(length + 8),
        # A single number, as in a date, is not a calculation.
        float(min(2, max(0, counts["numbers"] - 1))),
        *(log1p(min(counts[name], most)) for name, most in _COUNTED.items()),
        # The 15 keeps a single word from being a large share of a short text.
        *(counts[name] / (counts["tokens"] + 15) for name in _SHARES),
    )


def _evidence(text: str, words: Counter[str], counts: dict[str, int]) -> float:
    """How much there is to judge by: enough words, in a script and a language that can be read."""
    tokens = counts["tokens"]
    if not words or tokens < 2:
        return 0.0
    opened = not OPENERS.isdisjoint(words)
    readable = counts["english"] + opened
    clear = opened or (readable > 0 and "?" in text)
    enough = 1.0 if clear else min(1.0, (tokens - 3) / (ENOUGH - 3))
    marks = counts["calculation"] + counts["notation"] + counts["code"] + counts["mathematics"]
    language = min(1.0, (readable + marks) / (0.2 * sum(words.values())))
    letters = sum(len(word) * number for word, number in words.items())
    foreign = len(text) - len(text.encode("ascii", "ignore"))
    if foreign > letters / 4:
        foreign = count(_FOREIGN, text)
    share = letters / (letters + foreign)
    script = min(1.0, max(0.0, (share - 0.3) / 0.4))
    return max(0.0, enough) * language * script
