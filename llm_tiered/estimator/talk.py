"""What a prompt says about its own difficulty, which the estimate leaves out.

Words such as "hard" make no difference to the estimate anyway; the number in "this is a 10/10" and
the length of the sentence around it would.
"""

from __future__ import annotations

from .patterns import compiled, word_set

ENDS = 1_000
"""Number of characters at either end of a text that are searched."""

_NUMBER = r"(?:[0-9]{1,3}(?:\.[0-9]+)?|one|two|three|four|five|six|seven|eight|nine|ten)\b"
_STATED = (
    rf"(?:\bon )?\b(?:a )?scale (?:of|from) {_NUMBER} ?(?:to|-) ?{_NUMBER}"
    rf"|\b{_NUMBER} ?(?:to|-) ?{_NUMBER} scale\b"
    rf"|\b{_NUMBER} ?(?:/|out of|of|on) ?(?:10|ten|100)\b"
    r"|\b(?:complexity|difficulty|hardness|effort|level|score|rating)\b[^a-z0-9.!?]{0,9}"
    rf"(?:(?:is|to|of|at|as|be|not|no|more|less|than|least|most|this|task) ){{0,4}}{_NUMBER}"
)
_ROUTING = word_set("model tier router route escalate escalation effort reasoning")
_TOPICS = _ROUTING | word_set(
    """
    hard harder hardest difficult difficulty easy easier easiest trivial simple simplest complex
    complexity complicated tricky challenging level scale score rate rating
    """
)
_ABOUT_ITSELF = (
    r".*\bthis is\b|\W*(?:this|it|these|the (?:task|question|problem|prompt|model|router|following|"
    r"answer)|rate|treat)\b"
)
_TO_THE_ROUTER = r"\W*(?:use|do not|don't|no|only|any|even|tier|router|note to)\b"
_SENTENCE = r"[^.!?\n]+(?:\.(?=[0-9])[^.!?\n]+)*[.!?\n]*|[.!?\n]+"

# Number of characters from which a sentence says more than how hard it is.
_LONG_SENTENCE = 150


def without_talk(text: str, words: frozenset[str] | set[str], openers: frozenset[str]) -> str:
    """Return a text in lower case without what it says about its own difficulty.

    It is the same object if there is nothing to leave out. Only the stated number goes from a
    sentence that has one of the `openers` in it, so that no work can hide beside one. `words` are
    the words of the text.
    """
    if _TOPICS.isdisjoint(words) and "10" not in text and "scale" not in words:
        return text
    if len(text) <= 2 * ENDS:
        rest = _without(text, openers)
    else:
        rest = _without(text[:ENDS], openers) + text[ENDS:-ENDS] + _without(text[-ENDS:], openers)
    return text if rest == text else rest


def _without(text: str, openers: frozenset[str]) -> str:
    sentences = compiled(_SENTENCE).findall(text)
    return "".join(_rest(sentence, openers) for sentence in sentences)


def _rest(sentence: str, openers: frozenset[str]) -> str:
    words = compiled("[a-z']+").findall(sentence)
    has_topic, about_itself = (
        not _TOPICS.isdisjoint(words),
        bool(compiled(_ABOUT_ITSELF).match(sentence)),
    )
    rest: str = compiled(_STATED).sub("\n", sentence)
    if not (has_topic or about_itself) and compiled(r"\w").search(rest):
        # "He ate 3/10 of the cake" is part of the work.
        return sentence
    if not openers.isdisjoint(words) or len(sentence) > _LONG_SENTENCE:
        return rest
    to_the_router = compiled(_TO_THE_ROUTER).match(sentence) and not _ROUTING.isdisjoint(words)
    talks = (has_topic and about_itself) or to_the_router or rest != sentence
    return "\n" if talks else sentence
