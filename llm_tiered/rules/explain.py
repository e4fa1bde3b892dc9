"""What each rule says of a request and why, in words for people. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from .conditions import TIME_LIMIT, matches, unmet
from .ruling import ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..config.rules import Rule
    from .conditions import RuleFacts

Outcome: TypeAlias = Literal["decides", "restricts", "not needed", "does not match"]


class RuleOutcome(NamedTuple):
    """What became of a rule, and why."""

    rule: str
    outcome: Outcome
    why: str


def explain(rules: Sequence[Rule], facts: RuleFacts, *, choose: bool) -> list[RuleOutcome]:
    """Return what became of each rule; without `choose` the request itself has decided."""
    result = ruling(rules, facts, choose=choose)
    outcomes = []
    for rule in rules:
        missing = unmet(rule, facts)
        if missing:
            outcome = RuleOutcome(rule.name, "does not match", _why_not(missing, rule, facts))
        elif rule is result.decides and rule.chooses:
            outcome = RuleOutcome(rule.name, "decides", f"{_why(rule, facts)}: {_effect(rule)}")
        elif rule.restricts:
            why = f"{_why(rule, facts)}: {_restriction(rule)}"
            outcome = RuleOutcome(rule.name, "restricts", why)
        elif result.decides:
            outcome = RuleOutcome(rule.name, "not needed", f"{result.decides.name} comes first")
        else:
            outcome = RuleOutcome(rule.name, "not needed", "the request says where it goes")
        outcomes.append(outcome)
    return outcomes


def _why(rule: Rule, facts: RuleFacts) -> str:
    """The conditions that a rule has, all of which hold."""
    values = rule.as_written()
    conditions = [f"{name} {_value(values[name])}" for name in (*rule.on_text, *rule.on_request)]
    if rule.regex and None in (matches(rule.regex, text) for text in facts.everything):
        conditions.append(f"the pattern takes longer than {TIME_LIMIT} s, which counts as a match")
    return "; ".join(conditions) or "it has no conditions"


def _effect(rule: Rule) -> str:
    values = rule.as_written()
    effects = [
        f"{name} {values[name]}" for name in ("complexity", "task", "tier") if name in values
    ]
    return ", ".join([*effects, *([_restriction(rule)] if rule.restricts else [])])


def _restriction(rule: Rule) -> str:
    stays = {"here": ["stays here"], "own": ["stays on your machines"]}.get(rule.place or "", [])
    return ", ".join([*stays, *([f"not {' or '.join(rule.forbid)}"] if rule.forbid else [])])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " or ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _why_not(missing: str, rule: Rule, facts: RuleFacts) -> str:
    """Why the condition of that name does not hold."""
    return _MISSING[missing](getattr(rule, "schema_" if missing == "schema" else missing), facts)


def _absent(kind: str, wanted: tuple[str, ...] | bool) -> str:
    if isinstance(wanted, bool):
        return f"it has no {kind}s" if wanted else f"it has {kind}s"
    return f"no {kind} is {_value(wanted)}"


_MISSING: dict[str, Callable[[Any, RuleFacts], str]] = {
    "words": lambda words, _: f"it does not have {_value(words)}",
    "regex": lambda pattern, facts: (
        f"{pattern} matches nothing"
        if matches(pattern, facts.newest) is False
        else f"{pattern} takes longer than {TIME_LIMIT} s"
    ),
    "secrets": lambda kinds, _: f"it has no {_value(kinds)} in their known forms",
    "script": lambda scripts, _: f"most of its letters are not {_value(scripts)}",
    "length": lambda lengths, facts: f"it has {len(facts.text):,} characters, not {lengths}",
    "system": lambda words, _: f"the system prompt does not have {_value(words)}",
    "fragments": lambda names, _: _absent("fragment", names),
    "template": lambda names, _: _absent("template", names),
    "attachments": lambda kinds, _: _absent("attachment", kinds),
    "tools": lambda names, _: _absent("tool", names),
    "schema": lambda wanted, _: "it has no schema" if wanted else "it has a schema",
    "time": lambda hours, facts: f"it is {facts.now:%H:%M}, not {hours}",
}
