"""What a prompt asks for, where that alone makes it hard or easy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

OPENERS = frozenset(
    """
    what what's who who's whom whose when when's where where's which why how how's is are were
    does do did can could would should will name list define spell translate convert explain
    describe give tell write find calculate compute solve show make create summarize summarise
    rewrite correct fix count compare add sort say suggest recommend draw classify extract
    generate implement design prove derive complete continue identify discuss analyze analyse
    """.split()
)
"""Words that a request in English begins with, so that few words are enough to read it."""

# Where a sentence begins.
_START = r"(?:^|[.!?:])[^a-z0-9\n]*"
# Where an instruction begins: at the start of a clause, or after what leads up to one.
_AT = (
    r"(?:^\s*|[.!?:;,(\])*-]\s*|\b(?:and|then|please|also|first|finally|next|now|i|we|you|let us|"
    r"let's|need to|want to|want you to|help me|help me to|how to|try to|task is to|able to) )"
)


@dataclass(frozen=True)
class Intent:
    """Something that a prompt asks for, with the steps of complexity that it counts for.

    The steps are set by hand: of the questions that the rest is fitted on, hardly any asks for
    one of these. A text without any of the `words` is not searched.
    """

    reason: str
    steps: float
    words: frozenset[str]
    pattern: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HARD = (
    Intent(
        "asks for a proof",
        5.0,
        _words("prove disprove derive show demonstrate proof proofs derivation derivations"),
        rf"{_AT}(?:prove|disprove|derive|(?:show|demonstrate) that)\b"
        r"|\b(?:formal|rigorous|complete|full|mathematical) (?:proof|derivation)s?\b"
        r"|\bproof (?:that|by (?:contradiction|induction))\b",
    ),
    Intent(
        "asks for a design",
        2.0,
        _words("design architect engineer"),
        rf"{_AT}(?:design|architect|engineer)\b",
    ),
    Intent(
        "asks for an optimisation",
        2.0,
        _words(
            "optimise optimize minimise minimize maximise maximize refactor debug diagnose"
        ),
        rf"{_AT}(?:optimi[sz]e|minimi[sz]e|maximi[sz]e|refactor|debug|diagnose)\b",
    ),
    Intent(
        "asks for an analysis",
        1.5,
        _words(
            "analyse analyze critique critically evaluate assess compare contrast justify "
            "investigate argue synthesise synthesize trade tradeoff tradeoffs offs"
        ),
        rf"{_AT}(?:analy[sz]e|critique|critically|evaluate|assess|compare|contrast|justify|"
        r"investigate|argue|synthesi[sz]e)\b|\btrade-?offs?\b",
    ),
    Intent(
        "asks for a program",
        1.0,
        _words(
            "implement program function script class query algorithm regex api code app parser "
            "compiler"
        ),
        rf"{_AT}(?:implement|program|code)\b"
        rf"|{_AT}(?:write|create|give me|make|generate|build|develop)\b[^.!?\n]{{0,40}}"
        r"\b(?:function|program|script|class|query|algorithm|regex|api|code|app|parser|"
        r"compiler)\b",
    ),
)
"""What makes a text hard."""

EASY = (
    Intent(
        "a plain question",
        -1.0,
        _words("what what's who who's when where which is are was were does do did can will how"),
        rf"{_START}(?:(?:hi|hello|hey|please|so|and|ok),? )*(?:what|who|when|where|which|is|are|"
        r"was|were|does|do|did|can|will|how (?:many|much|old|tall|far|long|big|do you))\b",
    ),
    Intent(
        "a simple operation",
        -1.0,
        _words(
            "spell define translate capitalise capitalize name list convert reverse repeat say "
            "count alphabetise alphabetize"
        ),
        rf"{_START}(?:please |can you |could you )?(?:spell|define|translate|capitali[sz]e|name|list|"
        r"convert|reverse|repeat|say|count|alphabeti[sz]e)\b",
    ),
)
"""What makes a short text easy, where it asks for nothing hard."""

SHORT, LONG = 16, 28
"""Words and numbers up to which a text is short in that sense, and from which it is not at all."""


@cache
def _compiled(intent: Intent) -> re.Pattern[str]:
    return re.compile(intent.pattern, re.ASCII | re.MULTILINE)


def intents(text: str, words: set[str], tokens: int) -> tuple[tuple[float, str], ...]:
    """What a text in lower case asks for: the steps of complexity, each with its reason.

    `words` are its words, `tokens` the number of its words and numbers.
    """
    found = _found(HARD, text, words)
    if found or tokens >= LONG:
        return tuple((intent.steps, intent.reason) for intent in found)
    shortness = min(1.0, (LONG - tokens) / (LONG - SHORT))
    easy = _found(EASY, text, words)[:1]
    return tuple((intent.steps * shortness, intent.reason) for intent in easy)


def _found(wanted: tuple[Intent, ...], text: str, words: set[str]) -> list[Intent]:
    return [
        intent
        for intent in wanted
        if not words.isdisjoint(intent.words) and _compiled(intent).search(text)
    ]
