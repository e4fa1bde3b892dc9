"""What a prompt asks for, where that alone makes it hard or easy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# Where an instruction begins: at the start of a clause, or after what leads up to one.
_AT = (
    r"(?:^|[.!?:;,\n(\])*-]\s*|\b(?:and|then|please|also|first|finally|next|now|i|we|you|let us|"
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
    Intent(
        "asks for steps",
        0.5,
        _words("step work reasoning"),
        r"\bstep[- ]by[- ]step\b|\bshow (?:all )?your (?:work|reasoning)\b",
    ),
)
"""What makes a text hard."""

EASY = (
    Intent(
        "a plain question",
        -1.0,
        _words("what what's who who's when where which is are was were does do did can will how"),
        r"\A\W*(?:(?:hi|hello|hey|please|so|and|ok),? )*(?:what|who|when|where|which|is|are|was|"
        r"were|does|do|did|can|will|how (?:many|much|old|tall|far|long|big|do you))\b",
    ),
    Intent(
        "a simple operation",
        -1.0,
        _words(
            "spell define translate capitalise capitalize name list convert reverse repeat say "
            "count alphabetise alphabetize"
        ),
        r"\A\W*(?:please |can you |could you )?(?:spell|define|translate|capitali[sz]e|name|list|"
        r"convert|reverse|repeat|say|count|alphabeti[sz]e)\b",
    ),
)
"""What makes a short text easy, where it asks for nothing hard."""

SHORT = 16
"""Words and numbers of a text that is short in that sense."""


@cache
def _compiled(intent: Intent) -> re.Pattern[str]:
    return re.compile(intent.pattern, re.ASCII | re.MULTILINE)


def intents(text: str, words: set[str], tokens: int) -> tuple[Intent, ...]:
    """What a text in lower case asks for.

    `words` are its words, `tokens` the number of its words and numbers.
    """
    found = _found(HARD, text, words)
    return found if found or tokens > SHORT else _found(EASY, text, words)[:1]


def _found(wanted: tuple[Intent, ...], text: str, words: set[str]) -> tuple[Intent, ...]:
    return tuple(
        intent
        for intent in wanted
        if not words.isdisjoint(intent.words) and _compiled(intent).search(text)
    )
