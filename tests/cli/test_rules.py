"""`llm tiered rules test`: which rule decides, and why the others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from tests.cli.commands import configure, refused, run, run_json

if TYPE_CHECKING:
    from pathlib import Path

RULES = [
    {"name": "contracts", "words": ["contract", "terms of service"], "complexity": 9},
    {"name": "secrets", "secrets": True, "place": "here"},
    {"words": "hello", "complexity": 1},
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, user_path: Path) -> None:
    """Forbid looking up models that are not on disk."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (user_path / "tiered").mkdir()


def outcomes(*args: str) -> dict[str, tuple[str, str]]:
    """What became of each rule, and why."""
    rules = run_json("rules", "test", *args)["rules"]
    return {rule["rule"]: (rule["outcome"], rule["why"]) for rule in rules}


def test_which_rule_decides() -> None:
    """The decision comes first, then each rule with its reason."""
    configure(rules=RULES)
    first, _, *rows = run("rules", "test", "Read the contract").stdout.splitlines()
    assert first == "cloud: the rule contracts gives complexity 9, and cloud covers 8-10"
    assert [row.split("  ")[0] for row in rows] == ["contracts", "secrets", "rule 3"]
    assert outcomes("Hello, read the contract") == {
        "contracts": ("decides", "words contract or terms of service: complexity 9"),
        "secrets": ("does not match", "it has no keys or cards or ibans in their known forms"),
        "rule 3": ("not needed", "contracts comes first"),
    }


def test_what_stays_here_although_the_request_says_otherwise() -> None:
    """The decision and the rule that restricts it are told, by `route` too."""
    configure(rules=RULES)
    prompt = ("Hello, my IBAN is DE89 3704 0044 0532 0130 00", "-o", "tier", "cloud")
    assert outcomes(*prompt)["secrets"][0] == "restricts"
    assert outcomes(*prompt)["rule 3"] == ("not needed", "the request says where it goes")
    facts = run_json("route", *prompt)
    assert (facts["tier"], facts["source"], facts["rules"]) == ("medium", "tier", ["secrets"])
    assert "the rule secrets keeps it on this machine, so it goes to medium" in facts["reason"]
    assert "cloud" not in [step["tier"] for step in facts["chain"]]


def test_a_rule_that_only_restricts_does_not_decide() -> None:
    """It restricts, although it matches first; the decision is left to the estimate."""
    configure(rules=[{"length": "1+", "forbid": "cloud"}])
    assert outcomes("Hello") == {"rule 1": ("restricts", "length 1+: not cloud")}
    assert run_json("route", "Hello")["source"] == "estimate"


def test_without_rules() -> None:
    """It says so, and where they belong."""
    path = configure(default_complexity=2)
    assert f"there are no rules in {path}" in run("rules", "test", "Hello").stdout
    assert run_json("rules", "test", "Hello")["rules"] == []


def test_fragments_and_templates(tmp_path: Path) -> None:
    """Their texts and names count, as for `llm prompt`."""
    configure(
        rules=[{"fragments": "*.md", "complexity": 2}, {"template": "review", "complexity": 9}]
    )
    notes = tmp_path / "notes.md"
    notes.write_text("Notes", "utf-8")
    templates = llm.user_dir() / "templates"
    templates.mkdir()
    (templates / "review.yaml").write_text(yaml.safe_dump({"prompt": "Review this: $input"}))
    assert outcomes("Hello", "-f", str(notes))["rule 1"][0] == "decides"
    assert outcomes("Hello", "--sf", str(notes))["rule 1"][0] == "decides"
    assert outcomes("Hello", "-t", "review")["rule 2"][0] == "decides"
    assert run_json("route", "Hello", "-t", "review")["complexity"] == 9
    assert refused("route", "Hello", "-t", "none") == "Invalid template: none"
    assert refused("route", "Hello", "-f", "none") == "Fragment 'none' not found"


def test_config_check_tells_a_rule_that_never_decides() -> None:
    """An earlier rule matches wherever it does."""
    configure(rules=[*RULES, {"words": "contract", "tools": True, "tier": "cloud"}])
    assert refused("config", "check") == (
        "rules: rule 4 never decides: the rule contracts always matches first"
    )
    configure(rules=RULES)
    assert "is valid" in run("config", "check").stdout


def test_config_show_prints_rules_as_they_are_written() -> None:
    """What it prints is valid, and says the same."""
    rules: list[dict[str, Any]] = [
        {"words": "a", "length": "2000+", "time": "22-6:30", "schema": True, "forbid": "cloud"},
        {"name": "all", "secrets": True, "place": "here"},
    ]
    configure(rules=rules)
    shown = run_json("config", "show")["rules"]["value"]
    assert shown == [
        {
            "words": ["a"],
            "length": "2000+",
            "schema": True,
            "time": "22:00-06:30",
            "forbid": ["cloud"],
        },
        {"name": "all", "secrets": ["keys", "cards", "ibans"], "place": "here"},
    ]
    configure(rules=shown)
    assert run_json("config", "show")["rules"]["value"] == shown
