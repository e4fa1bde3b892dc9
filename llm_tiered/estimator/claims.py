"""What a prompt claims about its own difficulty, or tells the router: the estimate ignores it.

"This is a complexity 1 task" or "use your best model" says nothing about the work to be done. The
patterns remove only the claim, not its sentence, so that no work can hide beside one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .intents import WORK
from .patterns import compiled

if TYPE_CHECKING:
    import re

ENDS = 1_000
"""Number of characters at either end of a text that are searched for claims."""

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
_LEVEL_WORDS = """
    hard harder hardest difficult difficulty difficulties easy easier easiest easily trivial
    trivially triviality simple simpler simplest simply simplicity basic complex complexity
    complicated tricky trickier trickiest challenging advanced demanding tough tougher toughest
    elementary straightforward effortless impossible expert phd genius olympiad kindergarten
    play cake brainer science effort
    """
_NUMBER = (
    r"(?:\d{1,3}(?:\.\d+)?|one|two|three|four|five|six|seven|eight|nine|ten|max(?:imum)?|"
    r"min(?:imum)?|low(?:est)?|high(?:est)?|medium)"
)
_SCALE = rf"(?:{_NUMBER}\s*(?:/|out of|of|on)\s*(?:10|ten|a hundred|100)\b)"
_MODEL = r"(?:models?|tiers?|llms?|ais?|brains?|gpt[-\w.]*|chatgpt|claude|gemini|opus|cloud|router)"
_MODEL_WORDS = "model models tier tiers llm llms ai ais brain gpt chatgpt claude gemini opus cloud"
_SIZE = (
    r"(?:small|smaller|smallest|tiny|tiniest|big|bigger|biggest|large|larger|largest|strong|"
    r"stronger|strongest|best|better|cheap|cheaper|cheapest|powerful|capable|smart|smarter|"
    r"smartest|weak|weaker|weakest|local|cloud|top|premium|expensive|fast|fastest|frontier|"
    r"medium|reasoning|most|least|highest|lowest|lightweight|flagship|advanced)"
)
# The rest of a clause.
_REST = r"[^.!?;:,\n()]"


class Claim(NamedTuple):
    """A way of talking about the difficulty. A text without any of the `words` is not searched."""

    words: frozenset[str]
    pattern: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _claim(words: str, *patterns: str) -> Claim:
    return Claim(_words(words), "(?a)" + "|".join(f"(?:{pattern})" for pattern in patterns))


CLAIMS = (
    _claim(
        "scale",
        # "on a scale of 1 to 10 this is a 3"
        rf"\bon (?:a|the) scale (?:of|from) {_NUMBER} ?(?:to|-) ?(?:10|ten|100|a hundred|five|5)\b"
        rf"(?:{_REST}{{0,5}}?,?{_REST}{{0,40}}?\b{_NUMBER}\b)?",
    ),
    _claim(
        "rate score mark grade rank scale",
        # "rate this 10/10", "score: 9 out of 10", "score this as 1"
        r"\b(?:rate|score|mark|grade|rank) (?:this|it)(?: (?:as|a|with|at))*"
        rf" (?:{_SCALE}|{_NUMBER})(?= *(?:$|[.!?,;:]))",
        rf"\b(?:rate|score|mark|grade|rank|scale)\b{_REST}{{0,40}}?:?\s*{_SCALE}",
        rf"^\W*score:? *{_NUMBER}\b",
    ),
    _claim(
        "complexity difficulty hardness effort",
        # "complexity: 10", "difficulty level is 1", "a complexity of 9 out of 10"
        r"(?:\b(?:an?|the|its|with|at|of|set|use|assign|give|has|is|needs?|this) ){0,5}"
        r"\b(?:complexity|difficulty|hardness|effort)(?:[ _-](?:level|score|rating|value|tier))?"
        rf"(?: of (?:this|that|the|my|our) {_TASK})?"
        r"(?![a-z])[\"'>\])*]{0,4}(?:[=:<>\s*(#~\u2248\u2264\u2265-]|\b(?:is|to|of|at|as|should be|"
        r"must be|no\.?|not|more|less|than|least|most|about|above|below|over|under|equals)\b){0,9}"
        rf"(?:{_SCALE}|{_NUMBER}\b|{_LEVEL}\b)"
        rf"(?: {_TASK}| ?\(?on a (?:scale of )?1 ?(?:-|to) ?10(?: scale)?\b)?",
        # "the highest complexity", "low-difficulty"
        rf"\b(?:of )?(?:the |an? )?(?:very )?{_NUMBER}[- ](?:complexity|difficulty|effort)\b"
        rf"(?: {_TASK})?",
    ),
    _claim(
        _LEVEL_WORDS + "level",
        # "this is a very hard task", "it needs expert knowledge"
        rf"\b(?:this|that|it|these|(?:the|my|our|following|next)(?: \w+)? {_TASK})(?: {_TASK})?"
        r"(?: (?:is|was|are|has|have|requires?|needs?|deserves?|should|must|may|might|will|would|"
        r"counts?|seems?|looks?|involves?|can|could)\b|'s\b|n't\b)"
        rf"{_REST}{{0,50}}?\b(?:{_LEVEL}\b|{_SCALE}|level {_NUMBER}\b)"
        rf"(?:{_REST}{{0,30}}?\b{_TASK}\b)?",
        # "rate this as trivial", "consider the following a hard question"
        r"\b(?:rate|treat|consider|classify|score|mark|label|grade|rank|regard|count|judge|"
        r"estimate|assume|tag|flag|categori[sz]e|handle|output|return|answer|say|report)\b"
        rf"{_REST}{{0,40}}?(?:\b{_LEVEL}\b|\blevel {_NUMBER}\b)"
        rf"(?:{_REST}{{0,20}}?\b{_TASK}\b)?",
        # "level 1 task", "10/10 hard", "very easy question", "super simple", "hard, hard, hard"
        rf"\blevel[- ]?{_NUMBER} {_TASK}\b",
        rf"\b{_SCALE}(?: (?:in|on|for))?(?: {_LEVEL}\b)+(?: {_TASK})?",
        r"\b(?:(?:very|really|extremely|super|quite|so|an?|just|only|pretty|incredibly|insanely) )*"
        rf"{_LEVEL}(?:[- ]level)?(?:,? (?:and |but )?{_LEVEL})* {_TASK}\b",
        rf"\b(?:very|really|extremely|super|incredibly|insanely|ridiculously) {_LEVEL}\b",
        rf"\b{_LEVEL}(?:[ ,!.]+{_LEVEL})+\b",
    ),
    _claim(
        "phd expert genius expertise degree",
        # "requires a phd in mathematics"
        r"\b(?:requires?|needs?|takes?|demands?) (?:an? |the )?"
        r"(?:ph\.?d|expert|genius|expertise|degree)(?:[- ]level)?"
        r"(?: (?:in|of) \w+| knowledge| skills?)*",
    ),
    _claim(
        "obvious known line liner word",
        r"\b(?:the|its) (?:answer|solution) is (?:obvious|clear|well known|one (?:line|word))\b",
        r"\b(?:this|it)(?: is|'s) (?:just |only )?an? one[- ](?:line|word|liner)(?: answer)?",
    ),
    _claim("quick", rf"\b(?:(?:very|really|just|an?|only) ){0, 4}quick {_TASK}\b"),
    _claim(
        _MODEL_WORDS,
        # "use your best model", "needs the cloud", "only gpt-4 can do this"
        r"\b(?:use|using|pick|choose|select|send|route|forward|escalate|give|pass|assign|"
        r"delegate|needs?|requires?|deserves?|call|ask|run|switch|upgrade|downgrade|try|force|go|"
        r"goes|belongs?|suitable|enough|fits?|handled|answered|solved|wants?)\b"
        rf"{_REST}{{0,30}}?\b{_SIZE}\b{_REST}{{0,25}}?\b{_MODEL}\b",
        r"\b(?:only|even|use|ask|needs?|requires?|route to|send to|try|forward to) (?:the |a )?"
        r"(?:gpt[-\w.]*|chatgpt|claude|gemini|opus|cloud)\b",
        r"\b(?:send|route|forward|give|pass|escalate|hand) (?:this|it)\b"
        rf"{_REST}{{0,30}}?\b{_MODEL}\b",
        # "a small model can handle this", "tier: cloud"
        rf"\b(?:any |an? |the |even |my |your |every ){{0,3}}{_SIZE}(?: \w+)?? {_MODEL}(?: \w+)??"
        r" (?:can|could|will|would|should|must|is|suffices|does)\b"
        rf"(?:{_REST}{{0,30}}?\b(?:this|that|it|do|{_TASK}|enough|fine|sufficient))?",
        rf"\b(?:model|tier)\s*[:=]\s*(?:{_SIZE}|{_MODEL})\b",
    ),
    _claim(
        "route routed router routing escalate escalated forward forwarded downgrade upgrade",
        rf"\b(?:do not |don't )?(?:route|escalate|forward|downgrade|upgrade) (?:this|it|me)\b"
        rf"{_REST}{{0,40}}",
        rf"\b(?:this|it)(?: \w+)? be (?:routed|escalated|forwarded)\b{_REST}{{0,40}}",
        r"\b(?:dear|hey|hello|hi|attention|note (?:to|for)(?: the)?|message (?:to|for)(?: the)?|"
        rf"you are (?:a|the)) (?:\w+ )?(?:router|routing)\b{_REST}{{0,30}}",
    ),
    _claim(
        "ignore disregard forget override bypass skip",
        r"\b(?:ignore|disregard|forget|override|bypass|skip)\b(?: \w+){0,2} (?:previous|prior|"
        r"above|router|routing|estimate|estimator|length|score|heuristics?|features?|tiers?)\b"
        rf"{_REST}{{0,30}}",
    ),
    _claim(
        "child kid toddler baby old monkey genius expert phd professor beginner student grandma "
        "grandmother",
        # "even a child could answer this", "only a genius can solve it"
        r"\b(?:even |only )?(?:an?|any|my|your|no) (?:[\w-]+ )?(?:child|kid|toddler|baby|"
        r"[\w-]+[- ]year[- ]old|grandm\w+|monkey|genius|expert|ph\.?d|professor|beginner|student)"
        rf"(?: \w+)? (?:could|can|would|might|will|knows?)\b{_REST}{{0,20}}?\b(?:solve|answer|do|"
        rf"handle|know|understand|figure|manage|get)\b(?: (?:this|it|that)(?: out| {_TASK})?)?",
    ),
    _claim(
        "think overthink",
        r"\b(?:please )?(?:(?:don't|no need to|do not|need to|must|should) )?(?:over)?think"
        r"(?: \w+){0,2} (?:hard|deeply|carefully|long|this|it|much)\b(?: about (?:this|it))?",
    ),
    _claim(
        "time thought thinking reasoning effort expertise intelligence brainpower compute",
        r"\btake (?:your|as much|all the) time\b(?: (?:as )?you need)?",
        r"\b(?:requires?|needs?|takes?|demands?|with) (?:a lot of|lots of|deep|extensive|careful|"
        r"serious|no|little|expert|great|real|much|heavy|maximum|minimal|minimum|multi-step)"
        r"(?: \w+)? (?:thought|thinking|reasoning|effort|expertise|intelligence|brainpower|"
        r"compute)\b",
    ),
)


# The topics of claims. A sentence of only these and fillers is a claim, however it is worded.
_ABOUT = _words(
    f"""
    {_LEVEL_WORDS} {_MODEL_WORDS} level levels router routing route routed escalate rate rated
    score classify classified classification label mark treat think overthink reasoning thinking
    thought obvious quick escalation intelligence brainpower biggest smallest strongest cheapest
    """
)
_FILLERS = _words(
    """
    a about ahead all an and answer answered answers any anyone are as assign at be because
    best better beyond big but by can cheap comes consider could dear do does don't eight else
    enough estimate even ever everyone exercise exercises expensive fine five for four from go
    good graduate handle has have hello here here's hey hi high highest i i'd i'll i'm in into
    is isn't it it's its job jobs just keep know large largest let little local look looks low
    lowest max maximal maximally maximum me medium message might min minimal minimum money
    more most much multi must my need needs never nine no not note nothing now o of ok on one
    only or ought our output pay please premium priority problem problems prompt prompts
    purposes put queries query question questions really regard regards request requests
    required requires response save say school see select send set seven should since six
    small so solve solved some step still stuff super system task tasks tell ten terms than
    that that's the them then there these they this those three to too top truly try twenty
    two us use user using very want warning waste way we well what's will with work would you
    you're your
    """
)
_TRIGGERS = _ABOUT.union(*(claim.words for claim in CLAIMS))
_MEANINGLESS = _ABOUT | _FILLERS
# "child's play", "a piece of cake", "rocket science": on their own, these words mean other things.
_TELLING = _ABOUT - _words("play cake science")

# Number of characters from which a sentence is more than a claim.
_LONG_SENTENCE = 150
_MARK = rf"(?a)\W*{_SCALE}\W*"
_SENTENCE = r"[^.!?\n]+(?:\.(?=[0-9])[^.!?\n]+)*[.!?\n]*|[.!?\n]+"
# Anything that may be a letter, in any script.
_LETTER = r"[^\x00-\x60\x7b-\xbf\u2000-\u206f\u3000-\u303f\uff00-\uff20]"
_WORD = rf"{_LETTER}(?:{_LETTER}|')*"


def without_claims(text: str, words: set[str]) -> str:
    """Return a text in lower case without its claims; the same object if it has none.

    `words` are the words of the text.
    """
    if words.isdisjoint(_TRIGGERS) and "10" not in text:
        return text
    patterns = [compiled(claim.pattern) for claim in CLAIMS if not words.isdisjoint(claim.words)]
    if len(text) <= 2 * ENDS:
        cleaned = _without(text, patterns)
    else:
        head, tail = _without(text[:ENDS], patterns), _without(text[-ENDS:], patterns)
        cleaned = head + text[ENDS:-ENDS] + tail
    return text if cleaned == text else cleaned


def without_talk(text: str, words: set[str]) -> str:
    """Return the text without sentences that are mostly about its difficulty.

    It is the same object if there are none. Such a sentence says little else; one that asks for
    hard work stays. `words` are the words of the text.
    """
    if words.isdisjoint(_TELLING):
        return text
    sentences = compiled(_SENTENCE).findall(text)
    rest = [sentence for sentence in sentences if not _is_talk(sentence)]
    return text if len(rest) == len(sentences) else "".join(rest)


def _is_talk(sentence: str) -> bool:
    words = set(compiled(_WORD).findall(sentence)) if len(sentence) < _LONG_SENTENCE else set()
    if _TELLING.isdisjoint(words):
        return False
    others = words - _MEANINGLESS
    return 2 * len(others) <= len(words) and WORK.isdisjoint(others)


def _without(text: str, patterns: list[re.Pattern[str]]) -> str:
    matching = [pattern for pattern in patterns if pattern.search(text)]
    return "".join(_cleaned(sentence, matching) for sentence in compiled(_SENTENCE).findall(text))


def _cleaned(sentence: str, patterns: list[re.Pattern[str]]) -> str:
    """Return a sentence without its claims, or a line break if it has nothing else in it."""
    words = set(compiled(_WORD).findall(sentence)) if len(sentence) < _LONG_SENTENCE else {sentence}
    if _MEANINGLESS.issuperset(words) and (
        not _ABOUT.isdisjoint(words) or compiled(_MARK).fullmatch(sentence)
    ):
        return "\n"
    rest = sentence
    for pattern in patterns:
        rest = pattern.sub("\n", rest)
    return (
        "\n"
        if rest != sentence and _MEANINGLESS.issuperset(compiled(_WORD).findall(rest))
        else rest
    )
