"""Text → whether it asks for a proof, a design or a program."""

from __future__ import annotations

from .patterns import compiled, word_set

_PROVES = r"prove|disprove|derive"
_DESIGNS = r"design|architect"
_PROGRAMS = r"implement|program|code|refactor|debug"

# A verb is an instruction at the beginning of a clause, or after words that lead up to one.
_LEADS_UP = (
    r"(?:^\s*|[.!?:;,\n(\])*-]\s*|\b(?:and|then|please|also|first|finally|next|now|i|we|you|let us|"
    r"let's|need to|want to|want you to|help me|help me to|how to|try to|task is to|able to) )"
)
# It also is one before an object, unless the sentence is about somebody who does it. What precedes
# it is looked at only where there is a verb: elsewhere that would take most of the time.
_OBJECT = r"(?:an?|the|my|our|this|that|these|each|all|whether|why|it)\b"
_NOT_REPORTED = (
    r"(?<!\bto )(?<!\bmust )(?<!\bcan )(?<!\bnot )(?<!\bwill )(?<!\bwould )(?<!\bcould )"
    r"(?<!\bshould )(?<!\bmay )(?<!\bmight )(?<!\bwho )(?<!\bwhich )(?<!\bthey )"
)
_PROOF = (
    rf"(?m)(?:{_LEADS_UP}(?:{_PROVES})\b|\b(?={_PROVES}){_NOT_REPORTED}(?:{_PROVES}) {_OBJECT})"
    r"|\b(?:formal|rigorous|complete|full|mathematical) (?:proof|derivation)s?\b"
    r"|\bproof (?:that|by (?:contradiction|induction))\b"
    r"|(?:^|[.!?:;,\n]|\b(?:and|then|to)) *(?:show|demonstrate) that\b"
)
_DESIGN = rf"(?m)(?:{_LEADS_UP}|\b(?={_DESIGNS}){_NOT_REPORTED})(?:{_DESIGNS}) {_OBJECT}"
_PROGRAM = (
    rf"(?m){_LEADS_UP}(?:{_PROGRAMS})\b"
    r"|\b(?:write|create|give me|make|generate|build|develop)\b[^.!?\n]{0,40}"
    r"\b(?:function|program|script|query|algorithm|regex|api|code|app|parser|compiler|sql|html|website)\b"
)

VERBS = frozenset(f"{_PROVES}|{_DESIGNS}|{_PROGRAMS}".split("|"))
"""Verbs that ask for one of the three."""

_NOUNS = word_set(
    """
    proof proofs derivation derivations show demonstrate function program script query algorithm
    regex api code app parser compiler sql html website
    """
)
# A pattern is only searched for in a text that has one of its words.
_PATTERNS = {
    "a proof": (
        _PROOF,
        word_set("prove disprove derive proof proofs derivation derivations show demonstrate"),
    ),
    "a design": (_DESIGN, word_set("design architect")),
    "a program": (
        _PROGRAM,
        word_set(
            """
            implement program code refactor debug write create give make generate build develop
            """
        ),
    ),
}
_CODE = ("```", ">>>", "():", "def ", "#include", "=> {", "{\n", ";\n")


def asks_for(text: str, words: frozenset[str] | set[str]) -> list[str]:
    """Return which of "a proof", "a design" and "a program" a text in lower case asks for.

    `words` are the words of the text.
    """
    if VERBS.isdisjoint(words) and _NOUNS.isdisjoint(words):
        return []
    return [
        name
        for name, (pattern, needed) in _PATTERNS.items()
        if not needed.isdisjoint(words) and compiled(pattern).search(text)
    ]


def has_code(text: str) -> bool:
    """Whether there is code in a text: a program to complete, to explain or to mend."""
    return any(mark in text for mark in _CODE)
