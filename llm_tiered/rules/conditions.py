"""The conditions of a rule: whether they hold for a prompt, and what stands against them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config.rules import compiled
from .text import RuleText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..config.rules import Hours, Lengths, Rule

# Seconds that a pattern may search one text: some take exponential time on some texts.
TIME_LIMIT = 0.25


class AttachedFile(NamedTuple):
    """The media type of an attachment; it is `certain` if nobody has to be asked for it."""

    kind: str
    certain: bool = True


@dataclass(frozen=True)
class RuleFacts:
    """What rules can know about a request.

    `text` is the user's newest message with its fragments, `sent` every text that a model would be
    sent. `fragments` are the names of this message's fragments, `attached` its attachments, and
    `all_fragments` and `all_attached` those of the conversation, as far as they are known.
    """

    text: str
    sent: Sequence[str] = ()
    system: str = ""
    fragments: Sequence[str] = ()
    all_fragments: Sequence[str] = ()
    templates: Sequence[str] = ()
    attached: Sequence[AttachedFile] = ()
    all_attached: Sequence[AttachedFile] = ()
    tools: Sequence[str] = ()
    schema: bool = False
    now: time = time()

    @cached_property
    def newest(self) -> RuleText:
        """The newest message."""
        return RuleText(self.text)

    @cached_property
    def everything(self) -> tuple[RuleText, ...]:
        """Everything that a model would be sent, the newest message first."""
        others = (RuleText(text) for text in self.sent if text != self.text)
        return (self.newest, *others)

    @cached_property
    def instructions(self) -> RuleText:
        """The system prompt."""
        return RuleText(self.system)


def holds(rule: Rule, facts: RuleFacts) -> bool:
    """Return whether a rule holds for a request.

    A rule that chooses looks at the newest message. One that restricts looks at everything that
    would be sent, and holds unless it is known that it does not.
    """
    return unmet(rule, facts) is None


def unmet(rule: Rule, facts: RuleFacts) -> str | None:
    """Return the name of a condition of the rule that is not met, or None if the rule holds."""
    for name, value in rule.on_request.items():
        if not _met(_REQUEST[name](value, facts, rule.restricts), rule):
            return name
    if not rule.on_text:
        return None
    if not rule.restricts:
        return _unmet_by(facts.newest, rule)
    failed = [_unmet_by(text, rule) for text in facts.everything]
    return None if None in failed else failed[0]


def media_type(name: str) -> str:
    """Return the pattern for types of attachments: "image" stands for image/png and the like."""
    return name if "/" in name else f"{name}/*"


def _unmet_by(text: RuleText, rule: Rule) -> str | None:
    for name, value in rule.on_text.items():
        if not _met(_TEXT[name](value, text), rule):
            return name
    return None


def _met(result: bool | None, rule: Rule) -> bool:
    """Whether a condition is met; where that is unknown, as None, only for a rule that restricts.

    Where it can't be known whether a prompt may leave, it may not.
    """
    return rule.restricts if result is None else result


def matches(pattern: str, text: RuleText) -> bool | None:
    """Return whether a pattern matches somewhere in a text; None if it takes too long to tell."""
    try:
        return compiled(pattern).search(text.text, timeout=TIME_LIMIT) is not None
    except TimeoutError:
        return None


def _in_range(lengths: Lengths, text: RuleText) -> bool:
    return (
        lengths.least
        <= len(text.text)
        <= (len(text.text) if lengths.most is None else lengths.most)
    )


_TEXT: dict[str, Callable[[Any, RuleText], bool | None]] = {
    "words": lambda phrases, text: text.has_phrase(phrases),
    "regex": matches,
    "secrets": lambda kinds, text: not text.secrets.isdisjoint(kinds),
    "script": lambda scripts, text: text.share_of(scripts) > 0.5,
    "length": _in_range,
}


def _named(wanted: tuple[str, ...] | bool, names: Sequence[str]) -> bool:
    """Whether one of the names is wanted; true wants any, and false none."""
    if isinstance(wanted, bool):
        return bool(names) is wanted
    return any(fnmatchcase(name, pattern) for name in names for pattern in wanted)


def _attached(wanted: tuple[str, ...] | bool, files: Iterable[AttachedFile]) -> bool | None:
    files = list(files)
    if isinstance(wanted, bool):
        return bool(files) is wanted
    patterns = [media_type(each) for each in wanted]
    if any(fnmatchcase(file.kind, pattern) for file in files for pattern in patterns):
        return True
    return False if all(file.certain for file in files) else None


def _within(hours: Hours, now: time) -> bool:
    if hours.start < hours.end:
        return hours.start <= now < hours.end
    return now >= hours.start or now < hours.end


_REQUEST: dict[str, Callable[[Any, RuleFacts, bool], bool | None]] = {
    "system": lambda phrases, facts, _: facts.instructions.has_phrase(phrases),
    "fragments": lambda names, facts, restricts: _named(
        names, facts.all_fragments if restricts else facts.fragments
    ),
    "template": lambda names, facts, _: _named(names, facts.templates),
    "attachments": lambda kinds, facts, restricts: _attached(
        kinds, facts.all_attached if restricts else facts.attached
    ),
    "tools": lambda names, facts, _: _named(names, facts.tools),
    "schema": lambda wanted, facts, _: facts.schema is wanted,
    "time": lambda hours, facts, _: _within(hours, facts.now),
}
