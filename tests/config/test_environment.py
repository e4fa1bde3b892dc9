"""What the environment changes in the config."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.config.settings import load_settings
from llm_tiered.errors import ConfigError
from tests.tiers import CLOUD, MEDIUM, SMALL, tiers

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.config.settings import Settings


def _spans(settings: Settings) -> list[str]:
    return [str(tier.complexity) for tier in settings.tiers]


@pytest.mark.parametrize(
    ("small", "medium", "expected"),
    [
        ("2", None, ["1-2", "3-7", "8-10"]),
        (" 2 ", "", ["1-2", "3-7", "8-10"]),
        (None, "8", ["1-4", "5-8", "9-10"]),
        ("6", "9", ["1-6", "7-9", "10"]),
        ("8", "9", ["1-8", "9", "10"]),
        ("0", None, ["none", "1-7", "8-10"]),
        ("7", None, ["1-7", "none", "8-10"]),
        ("8", None, ["1-8", "none", "9-10"]),
        (None, "4", ["1-4", "none", "5-10"]),
        (None, "10", ["1-4", "5-10", "none"]),
        ("0", "0", ["none", "none", "1-10"]),
    ],
)
def test_thresholds_move_the_tiers(
    monkeypatch: pytest.MonkeyPatch, small: str | None, medium: str | None, expected: list[str]
) -> None:
    """The two variables move the ends of small and medium; a tier may end up empty."""
    if small is not None:
        monkeypatch.setenv("COMPLEXITY_SMALL", small)
    if medium is not None:
        monkeypatch.setenv("COMPLEXITY_MEDIUM", medium)
    assert _spans(load_settings()) == expected


def test_thresholds_leave_each_number_in_one_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any thresholds, each complexity belongs to one tier, or there is an error."""
    thresholds = [None, *map(str, range(11))]
    wrong: list[tuple[str | None, str | None, Any]] = []
    for small, medium in product(thresholds, thresholds):
        with monkeypatch.context() as environment:
            for name, value in (("COMPLEXITY_SMALL", small), ("COMPLEXITY_MEDIUM", medium)):
                if value is not None:
                    environment.setenv(name, value)
            error = ""
            try:
                tiers = load_settings().tiers
            except ConfigError as caught:
                error = str(caught)
        if medium is not None and int(medium) < int(small or 4):
            if f"COMPLEXITY_MEDIUM: found '{medium}'" not in error:
                wrong.append((small, medium, error or "no error"))
            continue
        owners = [[tier.name for tier in tiers if tier.covers(number)] for number in range(1, 11)]
        if error or any(len(owner) != 1 for owner in owners):
            wrong.append((small, medium, error or owners))
    assert wrong == []


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("COMPLEXITY_SMALL", "11", "0 to 10"),
        ("COMPLEXITY_SMALL", "-1", "0 to 10"),
        ("COMPLEXITY_SMALL", "many", "0 to 10"),
        ("COMPLEXITY_SMALL", "4.5", "0 to 10"),
        ("COMPLEXITY_MEDIUM", "11", "4 to 10"),
        ("COMPLEXITY_MEDIUM", "3", "4 to 10"),
    ],
)
def test_wrong_threshold(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, allowed: str
) -> None:
    """A wrong threshold is an error with the variable, its value and the allowed range."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value) == f"{variable}: found {text!r}, expected {allowed}"


def test_threshold_of_a_tier_that_is_not_there(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold of a missing tier is an error with the variable and the tier."""
    config_file.write_text(tiers(SMALL.replace("small", "tiny"), MEDIUM, CLOUD))
    monkeypatch.setenv("COMPLEXITY_SMALL", "3")
    with pytest.raises(ConfigError, match="COMPLEXITY_SMALL sets the upper limit of the tier"):
        load_settings()


def test_threshold_beats_the_file(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment moves the tiers of the file and keeps their models."""
    config_file.write_text(tiers(SMALL, MEDIUM.replace("5-7", "5-8"), CLOUD.replace("8-", "9-")))
    monkeypatch.setenv("COMPLEXITY_MEDIUM", "6")
    settings = load_settings()
    assert _spans(settings) == ["1-4", "5-6", "7-10"]
    assert settings.tiers[1].model == "mlx/Qwen2.5-7B-Instruct-4bit"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, True) for text in ("true", "TRUE", " True ", "1", "yes", "on")],
        *[(text, False) for text in ("false", "False", "0", "no", "off")],
        ("", None),
        ("  ", None),
    ],
)
def test_force_local_llm(monkeypatch: pytest.MonkeyPatch, text: str, expected: bool | None) -> None:
    """FORCE_LOCAL_LLM is true, false or, if empty, unset, in any usual spelling."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", text)
    assert load_settings().force_local is expected


@pytest.mark.parametrize("text", ["maybe", "2", "local", "truee"])
def test_wrong_force_local_llm(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Any other text is an error: privacy is not guessed."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value) == f"FORCE_LOCAL_LLM: found {text!r}, expected true, false or nothing"


def test_sources(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value that is not a default has its source, the file or the environment."""
    config_file.write_text("fallback: local\n" + tiers(SMALL, MEDIUM, CLOUD))
    assert load_settings().sources == {"fallback": "config", "tiers": "config"}
    monkeypatch.setenv("COMPLEXITY_SMALL", "3")
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    assert load_settings().sources == {
        "fallback": "config",
        "tiers": "environment",
        "force_local": "environment",
    }
