"""What a prompt asks for, where that alone makes it hard or easy."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from .patterns import compiled

if TYPE_CHECKING:
    import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHORT, LONG = 16, 28
"""Words and numbers up to which a text is short, and from which it is not short at all."""


class Intent(NamedTuple):
    """Something that a prompt asks for, with the steps of complexity that it counts for.

    The steps are set by hand: of the questions that the rest is fitted on, hardly any asks for
    one of these. `verbs` count as instructions only, `phrases` (a pattern) wherever they stand.
    A text with none of the `words` is not searched for phrases.
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
"""What makes a text hard."""

# Where a sentence begins.
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
"""What makes a short text easy, where it asks for nothing hard."""

_BY_VERB = {verb: intent for intent in HARD for verb in intent.verbs.split()}

WORK = frozenset(_BY_VERB).union(*(_words(intent.words) for intent in HARD))
"""Words without which a text asks for nothing hard."""

OPENERS = _words(
    """
    what what's who who's whom whose when when's where where's which why how how's name list
    define spell translate convert explain describe write calculate compute solve create rewrite
    summarize summarise correct count compare add sort suggest recommend draw classify extract
    generate implement design prove derive complete identify discuss analyze analyse fix
    """
).union(_BY_VERB)
"""Words that show what is wanted, so that few words are enough."""

_VERB = rf"(?a)\b(?:{'|'.join(_BY_VERB)})\b"
# A verb is an instruction where a clause begins, after what leads up to an instruction, or
# before an object, unless somebody is told to have done it.
_LEADS_UP = (
    r"(?a)(?:^\s*|[.!?:;,\n(\])*-]\s*|\b(?:and|then|please|also|first|finally|next|now|i|we|you|"
    r"let us|let's|need to|want to|want you to|help me|help me to|how to|try to|task is to|"
    r"able to) )\Z"
)
_TOLD = r"(?a)\b(?:to|must|can|not|will|would|could|should|may|might|who|which|they) \Z"
_OBJECT = r"(?a) (?:an?|the|my|our|this|these|that|each|all|me|how|whether|why|it)\b"
_BEFORE = 16


@cache
def _phrases(intent: Intent) -> tuple[frozenset[str], re.Pattern[str]]:
    return _words(intent.words), compiled(f"(?am){intent.phrases}")


def intents(text: str, words: set[str], tokens: int) -> list[tuple[float, str]]:
    """What a text in lower case asks for: the steps of complexity, each with its reason.

    `words` are its words, `tokens` the number of its words and numbers.
    """
    asked = {
        _BY_VERB[found[0]] for found in compiled(_VERB).finditer(text) if _instructs(text, found)
    }
    hard = [intent for intent in HARD if intent in asked or _says(intent, text, words)]
    if hard or tokens >= LONG:
        return [(intent.steps, intent.reason) for intent in hard]
    shortness = min(1.0, (LONG - tokens) / (LONG - SHORT))
    easy = [intent for intent in EASY if _says(intent, text, words)]
    return [(intent.steps * shortness, intent.reason) for intent in easy[:1]]


def _instructs(text: str, found: re.Match[str]) -> bool:
    before = text[max(0, found.start() - _BEFORE) : found.start()]
    if compiled(_LEADS_UP).search(before):
        return True
    return bool(compiled(_OBJECT).match(text, found.end())) and not compiled(_TOLD).search(before)


def _says(intent: Intent, text: str, words: set[str]) -> bool:
    if not intent.phrases:
        return False
    known, phrases = _phrases(intent)
    return not words.isdisjoint(known) and bool(phrases.search(text))
