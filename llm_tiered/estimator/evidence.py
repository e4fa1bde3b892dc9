"""Text → how much there is to judge by: enough words, in a language and script that can be read.

Only fixed ranges of characters are used, never the Unicode tables of `re` and `str`, so that the
evidence is the same on every version of Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .asks import VERBS
from .patterns import count, word_set

if TYPE_CHECKING:
    from collections.abc import Mapping

ENOUGH = 8
"""Number of words and numbers that are enough evidence, whatever the text begins with."""

OPENERS = VERBS | word_set(
    """
    what what's who who's whom whose when when's where where's which why how how's name list
    define spell translate convert explain describe write calculate compute solve create rewrite
    summarize summarise correct count compare contrast add sort suggest recommend draw classify
    extract generate complete identify discuss analyze analyse evaluate assess critique justify
    argue investigate optimise optimize minimise minimize maximise maximize fix
    """
)
"""Words that show what is wanted, so that a short text is enough evidence."""

# Common English words, without which a text is in another language, or noise.
_ENGLISH = word_set(
    """
    the of and is are it to that for with this what which who whom whose when where why how you
    your my me i have has from please not can could would should if be by on do does
    """
)
# Marks of arithmetic and of code, which are the same in all languages.
_MARKS = "+=^%*<>{}()[]$\\_"
# Letters of scripts whose words are not counted. Greek is not among them: it is common in
# formulas, and a text in Greek has no words that count.
_FOREIGN = (
    "[\u0250-\u036f\u0400-\u1dff\u2c00-\u2dff\u3041-\ud7ff\ue000-\ufdff\ufe70-\ufefe\uff66-\uffdc"
    "\U00010000-\U0001cfff\U0001e000-\U0001efff\U00020000-\U0010ffff]"
)


def evidence(text: str, words: Mapping[str, int], tokens: int) -> float:
    """Return how much there is to judge by, from 0 to 1.

    `words` are the words of the text, which is in lower case, and how often they occur; `tokens` is
    the number of its words and numbers.
    """
    if not words or tokens < 2:
        return 0.0
    opened = not OPENERS.isdisjoint(words)
    readable = sum(words[word] for word in words.keys() & _ENGLISH) + opened
    clear = opened or (readable > 0 and "?" in text)
    enough = 1.0 if clear else min(1.0, (tokens - 3) / (ENOUGH - 3))
    marks = sum(map(text.count, _MARKS))
    language = min(1.0, (readable + marks) / (0.2 * sum(words.values())))
    letters = sum(len(word) * number for word, number in words.items())
    foreign = len(text) - len(text.encode("ascii", "ignore"))
    if foreign > letters / 4:
        foreign = count(_FOREIGN, text)
    share = letters / (letters + foreign)
    script = min(1.0, max(0.0, (share - 0.3) / 0.4))
    return max(0.0, enough) * language * script
