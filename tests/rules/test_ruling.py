"""The first rule that holds decides, and all restrictions that hold count."""

from __future__ import annotations

from llm_tiered.config.rules import parse
from llm_tiered.rules.conditions import RuleFacts
from llm_tiered.rules.explain import explain
from llm_tiered.rules.ruling import NO_RULING, ruling

RULES = parse(
    [
        {"name": "hard", "words": "proof", "complexity": 9},
        {"name": "easy", "words": ["proof", "hello"], "complexity": 2},
        {"name": "private", "words": "diary", "place": "here"},
        {"words": "diary", "forbid": ["medium", "cloud"]},
    ]
)


def names(text: str, *, choose: bool = True) -> tuple[str | None, list[str]]:
    """The rule that decides on a text, and those that restrict it."""
    result = ruling(RULES, RuleFacts(text), choose=choose)
    decides = result.decides.name if result.decides else None
    return decides, [rule.name for rule in result.restricts]


def test_the_first_that_holds_decides() -> None:
    """Later ones do not, and without one nothing does."""
    assert names("a proof") == ("hard", [])
    assert names("hello") == ("easy", [])
    assert names("good bye") == (None, [])
    assert ruling((), RuleFacts("a proof")) == NO_RULING


def test_restrictions_hold_wherever_they_stand() -> None:
    """A rule that keeps a prompt here holds beside an earlier one that decides."""
    assert names("a proof in my diary") == ("hard", ["private", "rule 4"])
    assert names("my diary") == ("private", ["private", "rule 4"])


def test_a_request_that_decides_itself_is_still_restricted() -> None:
    """Without a choice, no rule decides."""
    assert names("a proof in my diary", choose=False) == (None, ["private", "rule 4"])


def test_restrictions_hold_for_the_rest_of_a_conversation() -> None:
    """A rule that held earlier still restricts, but does not decide."""
    earlier = ("hard", "rule 4")
    result = ruling(RULES, RuleFacts("hello"), earlier=earlier)
    assert result.decides is RULES[1]
    assert result.restricts == (RULES[3],)


def test_what_is_forbidden() -> None:
    """The rule behind each restriction is known."""
    result = ruling(RULES, RuleFacts("my diary"))
    assert result.stays_here
    assert result.stays_here.label == "the rule private"
    assert {tier: rule.label for tier in ("small", "cloud") if (rule := result.forbids(tier))} == {
        "cloud": "rule 4"
    }


def test_each_rule_is_explained() -> None:
    """Which one decides, which restrict, and why the others do neither."""
    facts = RuleFacts("a proof, dear diary")
    told = {rule: (outcome, why) for rule, outcome, why in explain(RULES, facts, choose=True)}
    assert told == {
        "hard": ("decides", "words proof: complexity 9"),
        "easy": ("not needed", "hard comes first"),
        "private": ("restricts", "words diary: stays here"),
        "rule 4": ("restricts", "words diary: not medium or cloud"),
    }
    told = {rule: (outcome, why) for rule, outcome, why in explain(RULES, facts, choose=False)}
    assert told["hard"] == ("not needed", "the request says where it goes")


def test_every_condition_can_be_explained() -> None:
    """For each condition there are words for when it does not hold."""
    given = {
        "words": ["a", "b"],
        "regex": "x+",
        "secrets": True,
        "script": "han",
        "length": "3-5",
        "system": "a",
        "fragments": "*.md",
        "template": "review",
        "attachments": "image",
        "tools": True,
        "schema": True,
        "time": "9-17",
    }
    rules = parse([{name: value, "complexity": 3} for name, value in given.items()])
    reasons = [why for *_, why in explain(rules, RuleFacts(""), choose=True)]
    assert reasons == [
        "it does not have a or b",
        "x+ matches nothing",
        "it has no keys or cards or ibans in their known forms",
        "most of its letters are not han",
        "it has 0 characters, not 3-5",
        "the system prompt does not have a",
        "no fragment is *.md",
        "no template is review",
        "no attachment is image",
        "it has no tools",
        "it has no schema",
        "it is 00:00, not 09:00-17:00",
    ]
