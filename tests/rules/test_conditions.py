"""Each condition of a rule: when it holds, when it does not, and what is unknown."""

from __future__ import annotations

from datetime import time
from typing import TYPE_CHECKING, Any

from llm_tiered.config.rules import parse
from llm_tiered.rules import conditions
from llm_tiered.rules.conditions import AttachedFile, RuleFacts, holds, unmet
from llm_tiered.rules.explain import explain

if TYPE_CHECKING:
    import pytest

PNG, PDF = AttachedFile("image/png"), AttachedFile("application/pdf")
URL = AttachedFile("image/png", certain=False)


def matches(given: dict[str, Any], *, keeps: bool = False, **facts: Any) -> bool:
    """Whether a rule with these conditions holds; `keeps` makes it one that restricts."""
    [rule] = parse([given | ({"place": "here"} if keeps else {"complexity": 9})])
    return holds(rule, RuleFacts(**{"text": ""} | facts))


WORDS = [
    ("contract", "Read this Contract, please", True),
    ("contract", "contractors", False),
    ("contract", "subcontract", False),
    ("contract", "sub-contract", True),
    ("contract", "contract_id", False),
    ("contract", "subcontract or contract?", True),
    ("terms of service", "the terms  of\nservice", True),
    ("terms of service", "terms of the service", False),
    ("straße", "In der STRASSE", True),
    ("café", "cafe\u0301 au lait", True),
    ("合同", "这份合同的内容", True),
    ("계약서", "계약서를 읽어 주세요", True),
    ("สัญญา", "อ่านสัญญานี้", True),
    ("договор", "договорной", False),
    ("c++", "in C++ or C", True),
    ("2024", "in 2024", True),
    ("2024", "12024", False),
    ("$", "a $ sign", True),
]


def test_words() -> None:
    """Words stand for themselves as whole words, in any case, also where no spaces are written."""
    wrong = [row for row in WORDS if matches({"words": row[0]}, text=row[1]) is not row[2]]
    assert wrong == []


CONDITIONS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"words": ["a", "b"]}, {"text": "only b"}, True),
    ({"regex": r"CASE-\d+"}, {"text": "see CASE-12"}, True),
    ({"regex": r"CASE-\d+"}, {"text": "see case-12"}, False),
    ({"regex": r"(?i)case-\d+"}, {"text": "see CASE-12"}, True),
    ({"secrets": "ibans"}, {"text": "DE89 3704 0044 0532 0130 00"}, True),
    ({"secrets": "cards"}, {"text": "DE89 3704 0044 0532 0130 00"}, False),
    ({"script": "cyrillic"}, {"text": "Привет, OK?"}, True),
    ({"script": "cyrillic"}, {"text": "The word привет means hello"}, False),
    ({"script": ["han", "hiragana"]}, {"text": "日本語のテキストです"}, True),
    ({"script": "latin"}, {"text": "12 + 7"}, False),
    ({"length": "5+"}, {"text": "1234"}, False),
    ({"length": "5+"}, {"text": "12345"}, True),
    ({"length": "0-4"}, {"text": "1234"}, True),
    ({"length": "0-0"}, {"text": "1"}, False),
    ({"system": "translator"}, {"system": "You are a Translator."}, True),
    ({"system": "translator"}, {"text": "translator"}, False),
    ({"fragments": "*.md"}, {"fragments": ["/home/me/notes.md"]}, True),
    ({"fragments": "notes"}, {"fragments": ["/home/me/notes.md"]}, False),
    ({"template": ["review", "sum*"]}, {"templates": ["summary"]}, True),
    ({"attachments": "image"}, {"attached": [PDF, PNG]}, True),
    ({"attachments": "image"}, {"attached": [PDF]}, False),
    ({"attachments": "image"}, {"all_attached": [PNG]}, False),
    ({"attachments": "application/pdf"}, {"attached": [PDF]}, True),
    ({"attachments": True}, {"attached": [URL]}, True),
    ({"attachments": False}, {}, True),
    ({"tools": True}, {"tools": ["llm_time"]}, True),
    ({"tools": False}, {"tools": ["llm_time"]}, False),
    ({"tools": "Notes_*"}, {"tools": ["llm_time", "Notes_read"]}, True),
    ({"schema": True}, {"schema": True}, True),
    ({"schema": False}, {"schema": True}, False),
    ({"time": "9-17"}, {"now": time(9)}, True),
    ({"time": "9-17"}, {"now": time(17)}, False),
    ({"time": "22:30-6:00"}, {"now": time(3)}, True),
    ({"time": "22:30-6:00"}, {"now": time(22, 29)}, False),
    ({"time": "18-24"}, {"now": time(23, 59)}, True),
    ({"words": "a", "tools": True}, {"text": "a"}, False),
    ({"words": "a", "tools": True}, {"text": "a", "tools": ["t"]}, True),
    ({}, {}, True),
]


def test_conditions() -> None:
    """All conditions of a rule must hold, and one entry of each list; none at all always hold."""
    wrong = [row for row in CONDITIONS if matches(row[0], **row[1]) is not row[2]]
    assert wrong == []


def test_a_rule_that_chooses_looks_at_the_newest_message() -> None:
    """What else is sent along does not count for it."""
    facts: dict[str, Any] = {
        "text": "and now?",
        "sent": ["the contract", "and now?"],
        "all_attached": [PNG],
    }
    assert not matches({"words": "contract"}, **facts)
    assert not matches({"attachments": "image"}, **facts)


def test_a_rule_that_restricts_looks_at_everything_that_is_sent() -> None:
    """Earlier turns, the system prompt and results of tools count, each text by itself."""
    facts: dict[str, Any] = {
        "text": "and now?",
        "sent": ["a contract", "and now?"],
        "all_attached": [PNG],
    }
    assert matches({"words": "contract"}, keeps=True, **facts)
    assert matches({"attachments": "image"}, keeps=True, **facts)
    assert matches({"script": "cyrillic"}, keeps=True, text="Hello", sent=["Hello", "Привет"])
    assert not matches({"words": "contract", "length": "100+"}, keeps=True, **facts)
    assert not matches({"words": "invoice"}, keeps=True, **facts)


def test_where_it_is_unknown_a_rule_that_restricts_holds() -> None:
    """The type of a URL may be anything, until its server is asked."""
    for kinds, expected in (("image", True), ("application/pdf", False)):
        assert matches({"attachments": kinds}, attached=[URL]) is expected
        assert matches({"attachments": kinds}, keeps=True, all_attached=[URL])
    assert not matches({"attachments": "video"}, keeps=True, all_attached=[PNG])


def test_a_pattern_can_not_run_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that takes exponential time is given up: only a rule that restricts then holds."""
    monkeypatch.setattr(conditions, "TIME_LIMIT", 0.02)
    given = {"regex": r"^(?:a|aa|a+)+$"}
    text = "a" * 60 + "!"
    assert not matches(given, text=text)
    assert matches(given, keeps=True, text=text)
    rules = parse([given | {"complexity": 3}, given | {"place": "here"}])
    chooses, keeps = explain(rules, RuleFacts(text), choose=True)
    assert chooses.why.endswith("takes longer than 0.25 s")
    assert "which counts as a match" in keeps.why


def test_the_missing_condition_is_named() -> None:
    """Of a rule that does not hold, one condition that stands against it."""
    [rule] = parse([{"words": "a", "length": "3+", "tools": True, "complexity": 1}])
    assert unmet(rule, RuleFacts("a b")) == "tools"
    assert unmet(rule, RuleFacts("a", tools=["t"])) == "length"
    assert unmet(rule, RuleFacts("b c", tools=["t"])) == "words"
    assert unmet(rule, RuleFacts("a b", tools=["t"])) is None
