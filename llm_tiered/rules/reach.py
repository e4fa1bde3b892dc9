"""Rules that can never make a difference, because an earlier one always holds where they do."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import combinations
from math import inf
from typing import TYPE_CHECKING, Any

from ..config.terms import strictest
from .conditions import media_type
from .text import RuleText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.rules import Hours, Lengths, Rule

MINUTES_A_DAY = 24 * 60


def unreachable(rules: Sequence[Rule]) -> list[tuple[Rule, Rule]]:
    """Return the rules that never make a difference, each with the earlier rule that holds instead.

    A rule that restricts holds beside earlier ones, so that it is unreachable only if one of these
    restricts as much.
    """
    covered: dict[str, tuple[Rule, Rule]] = {}
    for earlier, rule in combinations(rules, 2):
        as_near = strictest(earlier.place, rule.place) == earlier.place
        as_strict = as_near and {*rule.forbid} <= {*earlier.forbid}
        if rule.name not in covered and as_strict and _covers(earlier, rule):
            covered[rule.name] = (rule, earlier)
    return [covered[rule.name] for rule in rules if rule.name in covered]


def _covers(earlier: Rule, rule: Rule) -> bool:
    """Whether the earlier rule is known to hold wherever the rule does."""
    narrow = rule.on_text | rule.on_request
    return all(
        name in narrow and _includes(name, wide, narrow[name])
        for name, wide in (earlier.on_text | earlier.on_request).items()
    )


def _includes(name: str, wide: Any, narrow: Any) -> bool:
    """Whether a condition with one value holds wherever it does with another."""
    if wide == narrow:
        return True
    if name == "length":
        return _in_range(wide, narrow)
    if name == "time":
        return _minutes(wide) >= _minutes(narrow)
    if isinstance(narrow, bool):
        return False
    if isinstance(wide, bool):
        # Any tools include these tools.
        return wide
    if name in ("words", "system"):
        return all(RuleText(phrase).has_phrase(wide) for phrase in narrow)
    if name == "regex":
        return False
    if name == "attachments":
        wide, narrow = (list(map(media_type, names)) for names in (wide, narrow))
    return all(any(_is_wider(pattern, each) for pattern in wide) for each in narrow)


def _is_wider(pattern: str, other: str) -> bool:
    """Whether a pattern with asterisks matches all names that another one matches."""
    return pattern == other or (not {"?", "["} & {*pattern, *other} and fnmatchcase(other, pattern))


def _in_range(wide: Lengths, narrow: Lengths) -> bool:
    most, limit = (inf if lengths.most is None else lengths.most for lengths in (narrow, wide))
    return wide.least <= narrow.least and most <= limit


def _minutes(hours: Hours) -> frozenset[int]:
    start, end = (moment.hour * 60 + moment.minute for moment in hours)
    if end <= start:
        end += MINUTES_A_DAY
    return frozenset(minute % MINUTES_A_DAY for minute in range(start, end))
