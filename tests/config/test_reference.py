"""The list of all config keys."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

from llm_tiered.config.reference import config_keys
from llm_tiered.config.sections import Config, sections

if TYPE_CHECKING:
    from pydantic import BaseModel

ALL: list[type[BaseModel]] = [Config, *sections().values()]
KEYS = {key.key: key for key in config_keys()}


def _fields() -> set[str]:
    """The names of all keys, of sections too."""
    return {field.alias or name for each in ALL for name, field in each.model_fields.items()}


def test_every_key_is_listed() -> None:
    """Each key of each section is in the list, once."""
    assert {re.split(r"[.\]]", key)[-1] for key in KEYS} == _fields()
    assert len(config_keys()) == len(KEYS) == sum(len(section.model_fields) for section in ALL)


def test_every_key_has_values_and_one_sentence() -> None:
    """Values and description are filled in, start like a sentence and have no full stop."""
    wrong = [
        key
        for key in KEYS.values()
        if not key.values
        or not re.fullmatch(r"[A-Z][^\n]*[^.\n]", key.description)
        or len(key.description) > 100
    ]
    assert wrong == []


def test_a_few_keys() -> None:
    """A key has its path, its values, its default as YAML and a description."""
    assert KEYS["fallback"][1:3] == ("any, local or none", "any")
    assert KEYS["memory_limit"][1:3] == ("a size such as 12GB", "")
    assert KEYS["tiers[].complexity"][1:3] == ("a range such as 1-4 within 1-10", None)
    assert KEYS["tasks.NAME.escalate"][1:3] == ("true or false", "")
    assert KEYS["cache.enabled"][1:3] == ("true or false", "true")
    assert KEYS["models[].path"][1:3] == ("a folder", "")


def test_defaults_are_the_defaults() -> None:
    """A config file made of the listed defaults changes nothing."""
    text = "".join(
        f"{key.key}: {key.default}\n" for key in KEYS.values() if key.key in Config.model_fields
    )
    assert Config.model_validate(yaml.safe_load(text)) == Config()


def test_the_example_mentions_every_key() -> None:
    """Each key stands in the example file, as a value or in a comment."""
    example = files("llm_tiered.config").joinpath("example.yaml").read_text("utf-8")
    missing = {name for name in _fields() if not re.search(rf"\b{name}\b", example)}
    assert missing == {"enabled"}  # `cache: true` says it


def test_the_rules_of_the_example_are_valid() -> None:
    """Each rule in its comments can be used as it is."""
    example = files("llm_tiered.config").joinpath("example.yaml").read_text("utf-8")
    rules = [yaml.safe_load(line) for line in re.findall(r"(?m)^#   (- \{.*)$", example)]
    assert len(rules) >= 5
    assert len(Config.model_validate({"rules": [rule for [rule] in rules]}).rules) == len(rules)
