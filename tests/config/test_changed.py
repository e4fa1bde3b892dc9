"""The settings of another config file, and with single values changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from llm_tiered.config.changed import changed_settings
from llm_tiered.config.settings import load_settings
from llm_tiered.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PRO = "{complexity: 8-9, model: gemini/gemini-2.5-pro}"


def ranges(*changes: str) -> dict[str, str]:
    """The ranges of the tiers, lowest first, with these changes to the defaults."""
    return {tier.name: str(tier.complexity) for tier in changed_settings(None, changes).tiers}


def refused(*changes: str) -> str:
    """Why these changes are refused."""
    with pytest.raises(ConfigError) as caught:
        changed_settings(None, changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["tiers.medium.complexity=4-8"], {"small": "1-3", "medium": "4-8", "cloud": "9-10"}),
        (["tiers.2.complexity=6"], {"small": "1-5", "medium": "6", "cloud": "7-10"}),
        (["tiers.small.complexity=1-8"], {"small": "1-8", "medium": "none", "cloud": "9-10"}),
        (["tiers.cloud.complexity=3-10"], {"small": "1-2", "medium": "none", "cloud": "3-10"}),
        (
            ["tiers.small.complexity=1-2", "tiers.cloud.complexity=9-10"],
            {"small": "1-2", "medium": "3-8", "cloud": "9-10"},
        ),
        (
            [f"tiers.pro={PRO}"],
            {"small": "1-4", "medium": "5-7", "pro": "8-9", "cloud": "10"},
        ),
    ],
)
def test_neighbours_make_room(changes: list[str], expected: dict[str, str]) -> None:
    """A tier gets the range that was set, and its neighbours share the rest, in their order."""
    found = ranges(*changes)
    assert found == expected
    assert list(found) == list(expected)


def test_any_value_can_be_set() -> None:
    """Values are YAML; entries of lists go by name, and a whole entry of a new name is added."""
    settings = changed_settings(
        None,
        [
            "local_only=true",
            "tasks.theory_analysis=9",
            "tasks.tutorial_generation.escalate=true",
            "cache.enabled=true",
            "tiers.medium.model=phi",
            "rules.contracts={words: [contract, lease], complexity: 9}",
            "rules.contracts.complexity=10",
        ],
    )
    config = settings.config
    assert (config.local_only, config.cache.enabled) == (True, True)
    assert config.tasks["theory_analysis"].complexity == 9
    assert config.tasks["tutorial_generation"].complexity == 7
    assert config.tasks["tutorial_generation"].escalate is True
    assert [(rule.name, rule.words, rule.complexity) for rule in config.rules] == [
        ("contracts", ("contract", "lease"), 10)
    ]
    tier = settings.tier("medium")
    assert tier
    assert tier.model == "mlx/Phi-3.5-mini-instruct-4bit"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("tiers.medium", "not a key and a value (--set KEY=VALUE"),
        ("rules=[", "the value is not valid YAML"),
        ("tiers.mediun.complexity=4", "unknown tier 'mediun': did you mean medium?"),
        ("tiers.medium.complexity=11", "found 11, expected a range such as 1-4 within 1-10"),
        ("tiers.small.complexity=2-4", "no tier covers complexity 1; each of 1-10 needs one"),
        ("tiers.medium=3", "tiers[1]: found 3, expected keys and values"),
        ("default_complexity.x=3", "default_complexity has no keys of its own"),
        ("locl_only=true", "unknown key, did you mean local_only?"),
        ("rules.first.tier=cloud", "unknown rule 'first': known are none"),
    ],
)
def test_mistakes(change: str, problem: str) -> None:
    """A mistake names the change and what is allowed."""
    message = refused(change)
    assert problem in message
    assert f"--set {change}" in message


def test_ranges_that_contradict_each_other() -> None:
    """What was set stays, so that two of them can overlap."""
    message = refused("tiers.small.complexity=1-5", "tiers.medium.complexity=4-8")
    assert message.endswith("tiers: complexity 4 belongs to small and medium")


def test_another_file(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its values count instead of the user's own, and the environment beats both."""
    config_file.write_text(yaml.safe_dump({"default_complexity": 2}), "utf-8")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"default_complexity": 3}), "utf-8")
    monkeypatch.setenv("COMPLEXITY_SMALL", "2")
    settings = changed_settings(other, ["tiers.small.complexity=1-3"])
    assert settings.config.default_complexity == 3
    assert [str(tier.complexity) for tier in settings.tiers] == ["1-2", "3-7", "8-10"]
    assert changed_settings(None, []) == load_settings()
    other.write_text("tiers: [", "utf-8")
    with pytest.raises(ConfigError, match=f"{other}: line 1.*not valid YAML"):
        changed_settings(other, [])
