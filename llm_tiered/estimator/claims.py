"""What a prompt says about its own difficulty, or to the router: it is left out of the estimate.

"This is a complexity 1 task" or "use your best model" says nothing about the work to be done.
The patterns take out the claim and not its sentence, so that no work can hide beside one.
"""

from __future__ import annotations

import re
from functools import cache

WINDOW = 1_000
"""Characters at either end of a text that are searched for claims."""

_TASK = (
    r"(?:tasks?|questions?|problems?|prompts?|requests?|one|query|queries|exercises?|jobs?|"
    r"messages?|riddles?|challenges?)"
)
_LEVEL = (
    r"(?:hard(?:er|est)?|difficult(?:y|ies)?|eas(?:y|ier|iest|ily)|trivial(?:ly|ity)?|"
    r"simpl(?:e|er|est|y|icity)|basic|complex(?:ity)?|complicated|trick(?:y|ier|iest)|"
    r"challenging|advanced|demanding|tough(?:er|est)?|elementary|straightforward|"
    r"effortless|impossible|expert|ph\.?d|genius|olympiad|kindergarten|child's play|"
    r"piece of cake|no[- ]brainer|rocket science|low[- ]effort|high[- ]effort)"
)
_MODEL = r"(?:models?|tiers?|llms?|ais?|brains?|gpt[-\w.]*|chatgpt|claude|gemini|opus|cloud|router)"
_SIZE = (
    r"(?:small|smaller|smallest|tiny|tiniest|big|bigger|biggest|large|larger|largest|strong|"
    r"stronger|strongest|best|better|cheap|cheaper|cheapest|powerful|capable|smart|smarter|"
    r"smartest|weak|weaker|weakest|local|cloud|top|premium|expensive|fast|fastest|frontier|"
    r"medium|reasoning|most|least|highest|lowest|lightweight|flagship|advanced)"
)
_NUMBER = r"(?:\d{1,3}|one|two|three|four|five|six|seven|eight|nine|ten|max(?:imum)?|min(?:imum)?|low(?:est)?|high(?:est)?|medium)"
_SCALE = rf"(?:{_NUMBER}\s*(?:/|out of|of|on)\s*(?:10|ten|a hundred|100))"
_REST = r"[^.!?;:,\n()]"

_PATTERNS = (
    # "this is a very hard task", "it needs expert knowledge"
    rf"\b(?:this|that|it|these|(?:the|my|our|following|next)(?: \w+)? {_TASK})(?: {_TASK})?"
    r"(?: (?:is|was|are|has|have|requires?|needs?|deserves?|should|must|may|might|will|would|"
    r"counts?|seems?|looks?|involves?|can|could)\b|'s\b|n't\b)"
    rf"{_REST}{{0,50}}?\b(?:{_LEVEL}\b|{_SCALE}|level {_NUMBER}\b)"
    rf"(?:{_REST}{{0,30}}?\b{_TASK}\b)?",
    # "complexity: 10", "difficulty level is 1", "a complexity of 9 out of 10"
    rf"(?:\b(?:an?|the|its|with|at|of|set|use|assign|give|has|is|needs?|this) )*"
    rf"\b(?:complexity|difficulty|hardness|effort)\b(?: (?:level|score|rating|value|tier))?"
    rf"\s*(?:=|:|is|to|of|at|as|should be|must be)*\s*(?:{_SCALE}|{_NUMBER}\b|{_LEVEL}\b)"
    rf"(?: {_TASK})?",
    # "rate this 10/10", "treat it as easy", "consider the following a hard question"
    r"\b(?:rate|treat|consider|classify|score|mark|label|grade|rank|regard|count|judge|estimate|"
    r"assume|tag|flag|categori[sz]e|handle|output|return|answer with|say|report)\b"
    rf"{_REST}{{0,40}}?(?:\b{_LEVEL}\b|{_SCALE}|\blevel {_NUMBER}\b)(?:{_REST}{{0,20}}?\b{_TASK}\b)?",
    # "10/10 hard", "level 1 task", "very easy question", "super simple"
    rf"{_SCALE}(?: (?:in|on|for))?(?: {_LEVEL}\b)+(?: {_TASK})?",
    rf"\b(?:level|tier|grade)[- ]?{_NUMBER}(?: {_TASK})\b",
    rf"\b(?:(?:very|really|extremely|super|quite|so|an?|just|only|pretty|incredibly|insanely) )*"
    rf"(?:{_LEVEL}|quick|tiny)(?:[- ]level)?(?:,? (?:and |but )?{_LEVEL})* {_TASK}\b",
    rf"\b(?:very|really|extremely|super|incredibly|insanely|ridiculously) {_LEVEL}\b",
    rf"\b{_LEVEL}(?:[ ,!]+{_LEVEL})+\b",
    # "use your best model", "needs the cloud", "only gpt-4 can do this"
    r"\b(?:use|using|pick|choose|select|send|route|forward|escalate|give|pass|assign|delegate|"
    r"needs?|requires?|deserves?|call|ask|run|switch|upgrade|downgrade|try|force|go|goes|"
    r"belongs?|suitable|enough|fit|fits|handled|answered|solved|only|even|any|wants?|for)\b"
    rf"{_REST}{{0,30}}?\b{_SIZE}\b{_REST}{{0,25}}?\b{_MODEL}"
    rf"(?:{_REST}{{0,25}}?\b(?:this|that|it|{_TASK}))?\b",
    r"\b(?:only|even|use|ask|needs?|requires?|route to|send to|try|forward to) (?:the |a )?"
    r"(?:gpt[-\w.]*|chatgpt|claude|gemini|opus|cloud)\b"
    rf"(?:{_REST}{{0,25}}?\b(?:this|that|it|{_TASK}))?",
    rf"\b(?:route|escalate|forward|downgrade|upgrade) (?:this|it|me)\b{_REST}{{0,40}}",
    r"\b(?:dear|hey|hello|hi|attention|note (?:to|for)(?: the)?|message (?:to|for)(?: the)?|"
    rf"you are (?:a|the)) (?:\w+ )?(?:router|routing)\b{_REST}{{0,30}}",
    r"\b(?:ignore|disregard|forget|override|bypass|skip)\b(?: \w+){0,2} (?:previous|prior|above|"
    rf"router|routing|estimate|estimator|length|score|heuristics?|features?|tiers?)\b{_REST}{{0,30}}",
    # "even a child could answer this", "only a genius can solve it"
    r"\b(?:even |only )?(?:an?|any|my|your|no) (?:[\w-]+ ){0,3}?(?:child|kid|toddler|baby|"
    r"[\w-]+[- ]year[- ]old|grandm\w+|monkey|genius|expert|ph\.?d|professor|beginner|student)"
    rf"(?: \w+)? (?:could|can|would|might|will|knows?)\b{_REST}{{0,20}}?\b(?:solve|answer|do|handle|know|"
    rf"understand|figure|manage|get)\b(?: (?:this|it|that)(?: out| {_TASK})?)?",
    # "think hard", "take your time", "no need to overthink this"
    r"\b(?:please )?(?:(?:don't|no need to|do not|need to|must|should) )?(?:over)?think"
    r"(?: \w+){0,2} (?:hard|deeply|carefully|long|this|it|much)\b(?: about (?:this|it))?",
    r"\btake (?:your|as much|all the) time\b(?: (?:as )?you need)?",
    r"\b(?:requires?|needs?|takes?|demands?|with) (?:a lot of|lots of|deep|extensive|careful|"
    r"serious|no|little|expert|great|real|much|heavy|maximum|minimal|minimum|multi-step)"
    r"(?: \w+)? (?:thought|thinking|reasoning|effort|expertise|intelligence|brainpower|compute)\b",
)

_WORDS = frozenset(
    """
    hard harder hardest difficult difficulty difficulties easy easier easiest easily trivial
    trivially simple simpler simplest simply basic complex complexity complicated tricky
    challenging advanced demanding tough tougher elementary straightforward effortless impossible
    expert phd genius olympiad kindergarten play cake brainer science effort hardness level tier
    tiers model models llm gpt chatgpt claude gemini opus cloud router routing route escalate
    forward downgrade upgrade rate score ignore disregard forget override bypass child kid toddler
    baby old monkey professor beginner think overthink thinking time thought reasoning expertise
    intelligence brainpower compute brain quick ai
    """.split()
)


@cache
def _claims() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.ASCII)


def without_claims(text: str, words: set[str]) -> str:
    """The text, in lower case, without what it claims; the same object where it claims nothing.

    `words` are its words.
    """
    if words.isdisjoint(_WORDS):
        return text
    if len(text) <= 2 * WINDOW:
        cleaned, found = _claims().subn(" ", text)
        return cleaned if found else text
    head, before = _claims().subn(" ", text[:WINDOW])
    tail, after = _claims().subn(" ", text[-WINDOW:])
    return head + text[WINDOW:-WINDOW] + tail if before or after else text
