"""Text → what it asks for, where that alone makes it hard or easy."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from .patterns import compiled

if TYPE_CHECKING:
    import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHORT, LONG = 16, 28
"""Number of words and numbers up to which a text is short, and from which it is long."""


class Intent(NamedTuple):
    """Something that a prompt asks for, and the steps of complexity it adds.

    The steps were chosen by hand: hardly any prompt in the data that the model is fitted on asks
    for one of these. `verbs` count only as instructions, `phrases` (a pattern) anywhere. A text
    without any of the `words` is not searched for phrases.
    """

    reason: str
    steps: float
    verbs: str = ""
    phrases: str = ""
    words: str = ""


HARD = (
    Intent(
        "asks for a proof",
        5.0,
        verbs="prove disprove derive",
        phrases=r"\b(?:formal|rigorous|complete|full|mathematical) (?:proof|derivation)s?\b"
        r"|\bproof (?:that|by (?:contradiction|induction))\b"
        r"|(?:^|[.!?:;,\n]|\b(?:and|then|to)) *(?:show|demonstrate) that\b",
        words="proof proofs derivation derivations show demonstrate",
    ),
    Intent("asks for a design", 2.0, verbs="design architect engineer"),
    Intent(
        "asks for an optimisation",
        2.0,
        verbs="optimise optimize minimise minimize maximise maximize refactor debug diagnose",
    ),
    Intent(
        "asks for an analysis",
        1.5,
        verbs="analyse analyze critique evaluate assess compare contrast justify investigate argue "
        "synthesise synthesize",
        phrases=r"\b(?:trade-?offs?|critically)\b",
        words="trade tradeoff tradeoffs critically",
    ),
    Intent(
        "asks for a program",
        1.0,
        verbs="implement program code",
        phrases=r"\b(?:write|create|give me|make|generate|build|develop)\b[^.!?\n]{0,40}"
        r"\b(?:function|program|script|class|query|algorithm|regex|api|code|app|parser|compiler)\b",
        words="function program script class query algorithm regex api code app parser compiler",
    ),
)
"""Intents that make a text hard."""

# The beginning of a sentence.
_START = r"(?:^|[.!?:])[^a-z0-9\n]{0,10}"

EASY = (
    Intent(
        "a plain question",
        -1.0,
        phrases=rf"{_START}(?:(?:hi|hello|hey|please|so|and|ok),? ){{0,3}}(?:what|who|when|where|"
        r"which|is|are|was|were|does|do|did|can|will|how (?:many|much|old|tall|far|long|big|"
        r"do you))\b",
        words="what what's who who's when where which is are was were does do did can will how",
    ),
    Intent(
        "a simple operation",
        -1.0,
        phrases=rf"{_START}(?:please |can you |could you )?(?:spell|define|translate|"
        r"capitali[sz]e|name|list|convert|reverse|repeat|say|count|alphabeti[sz]e)\b",
        words="spell define translate capitalise capitalize name list convert reverse repeat say "
        "count alphabetise alphabetize",
    ),
)
"""Intents that make a short text easy, if it asks for nothing hard."""

_BY_VERB = {verb: intent for intent in HARD for verb in intent.verbs.split()}

WORK = frozenset(_BY_VERB).union(*(_words(intent.words) for intent in HARD))
"""A text that asks for something hard has at least one of these words."""

OPENERS = _words(
    """
    what what's who who's whom whose when when's where where's which why how how's name list
    define spell translate convert explain describe write calculate compute solve create rewrite
    summarize summarise correct count compare add sort suggest recommend draw classify extract
    generate implement design prove derive complete identify discuss analyze analyse fix
    """
).union(_BY_VERB)
"""Words that show what is wanted, so that a short text is enough evidence."""

_VERB = rf"(?a)\b(?:{'|'.join(_BY_VERB)})\b"
# A verb is an instruction at the beginning of a clause, after words that lead up to an
# instruction, or before an object, unless the sentence is about somebody who does it.
_LEADS_UP = (
    r"(?a)(?:^\s*|[.!?:;,\n(\])*-]\s*|\b(?:and|then|please|also|first|finally|next|now|i|we|you|"
    r"let us|let's|need to|want to|want you to|help me|help me to|how to|try to|task is to|"
    r"able to) )\Z"
)
_REPORTED = r"(?a)\b(?:to|must|can|not|will|would|could|should|may|might|who|which|they) \Z"
_OBJECT = r"(?a) (?:an?|the|my|our|this|these|that|each|all|me|how|whether|why|it)\b"
_BEFORE = 16


@cache
def _phrases(intent: Intent) -> tuple[frozenset[str], re.Pattern[str]]:
    return _words(intent.words), compiled(f"(?am){intent.phrases}")


def intents(text: str, words: set[str], tokens: int) -> list[tuple[float, str]]:
    """Return what a text in lower case asks for: steps of complexity, each with its reason.

    `words` are the words of the text, `tokens` is the number of its words and numbers.
    """
    instructions = {
        _BY_VERB[verb[0]] for verb in compiled(_VERB).finditer(text) if _is_instruction(text, verb)
    }
    hard = [intent for intent in HARD if intent in instructions or _occurs(intent, text, words)]
    if hard or tokens >= LONG:
        return [(intent.steps, intent.reason) for intent in hard]
    shortness = min(1.0, (LONG - tokens) / (LONG - SHORT))
    easy = [intent for intent in EASY if _occurs(intent, text, words)]
    return [(intent.steps * shortness, intent.reason) for intent in easy[:1]]


def _is_instruction(text: str, verb: re.Match[str]) -> bool:
    before = text[max(0, verb.start() - _BEFORE) : verb.start()]
    if compiled(_LEADS_UP).search(before):
        return True
    if compiled(_REPORTED).search(before):
        return False
    return bool(compiled(_OBJECT).match(text, verb.end()))


def _occurs(intent: Intent, text: str, words: set[str]) -> bool:
    if not intent.phrases:
        return False
    known, phrases = _phrases(intent)
    return not words.isdisjoint(known) and bool(phrases.search(text))
