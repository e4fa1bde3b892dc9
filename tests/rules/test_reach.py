"""Rules that can never make a difference."""

from __future__ import annotations

from datetime import time
from itertools import product
from typing import Any

from llm_tiered.config.rules import parse
from llm_tiered.rules.conditions import AttachedFile, RuleFacts, holds
from llm_tiered.rules.reach import unreachable


def never(*given: dict[str, Any]) -> list[tuple[str, str]]:
    """The rules that never make a difference, with the earlier ones."""
    rules = parse([{"complexity": 5} | each if "place" not in each else each for each in given])
    return [(rule.name, earlier.name) for rule, earlier in unreachable(rules)]


def test_wider_conditions_come_first() -> None:
    """A later rule is unreachable if an earlier one holds wherever it does."""
    narrower: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"words": "a"}),
        ({"words": ["a", "b"]}, {"words": "b"}),
        ({"words": "invoice"}, {"words": ["unpaid invoice", "Invoice"]}),
        ({"words": "a"}, {"words": "a", "tools": True}),
        ({"length": "10+"}, {"length": "20-30"}),
        ({"time": "20-8"}, {"time": "22:00-6:30"}),
        ({"tools": True}, {"tools": "x"}),
        ({"tools": "llm_*"}, {"tools": ["llm_time", "llm_v*"]}),
        ({"attachments": "image"}, {"attachments": "image/png"}),
        ({"secrets": True}, {"secrets": "cards"}),
        ({"regex": "a+"}, {"regex": "a+", "schema": True}),
    ]
    assert [pair for pair in narrower if never(*pair) != [("rule 2", "rule 1")]] == []


def test_others_are_reachable() -> None:
    """Narrower, different or unlike conditions leave something to the later rule."""
    others: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"words": "a"}, {}),
        ({"words": "b"}, {"words": ["a", "b"]}),
        ({"length": "20+"}, {"length": "10+"}),
        ({"time": "22-6"}, {"time": "21-6"}),
        ({"tools": "x"}, {"tools": True}),
        ({"tools": True}, {"tools": False}),
        ({"schema": True}, {"schema": False}),
        ({"attachments": "image/png"}, {"attachments": "image"}),
        ({"regex": "a"}, {"regex": "aa"}),
    ]
    assert [pair for pair in others if never(*pair)] == []


def test_restrictions_hold_beside_earlier_rules() -> None:
    """A rule that keeps a prompt here is unreachable only behind one that is as strict."""
    keeps: dict[str, Any] = {"words": "a", "place": "here"}
    assert never({}, keeps) == []
    assert never({"place": "here"}, keeps) == [("rule 2", "rule 1")]
    assert never({"place": "here"}, keeps | {"forbid": "small"}) == []
    assert never({"place": "here"}, {"words": "a"}) == [("rule 2", "rule 1")]


VALUES: dict[str, list[Any]] = {
    "words": ["a", "b", ["a", "b"], "a b"],
    "length": ["0-1", "1+", "3-5"],
    "tools": [True, False, "t", "t*"],
    "attachments": [True, "image", "image/png", "*/png"],
    "time": ["9-17", "17-9", "10-11"],
}
FACTS = [
    RuleFacts(text, tools=tools, attached=files, now=now)
    for text, tools, files, now in product(
        ("", "a", "b", "a b", "b a c"),
        ((), ("t",), ("tt",)),
        ((), (AttachedFile("image/png"),), (AttachedFile("text/png"),)),
        (time(9), time(10, 30), time(20)),
    )
]


def test_what_is_called_unreachable_is() -> None:
    """For no request does such a rule hold where the earlier one does not."""
    conditions = [{name: value} for name, values in VALUES.items() for value in values]
    rules = [parse([each | {"complexity": 5, "name": "x"}])[0] for each in conditions]
    held = {
        id(rule): {place for place, facts in enumerate(FACTS) if holds(rule, facts)}
        for rule in rules
    }
    wrong = []
    found = 0
    for earlier, rule in product(rules, repeat=2):
        pair = (earlier.model_copy(update={"name": "earlier"}), rule)
        if earlier is not rule and unreachable(pair):
            found += 1
            if not held[id(rule)] <= held[id(earlier)]:
                wrong.append((earlier, rule))
    assert wrong == []
    assert found >= 10
