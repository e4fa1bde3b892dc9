"""Mistakes in the config file and their errors."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llm_tiered.config.local_models import local_models
from llm_tiered.config.sections import Config
from llm_tiered.config.settings import load_settings
from llm_tiered.config.tiers import Tier
from llm_tiered.config.user_models import UserModel, declared_models
from llm_tiered.errors import ConfigError
from llm_tiered.mlx.catalog import CATALOG
from llm_tiered.paths import config_path
from tests.tiers import CLOUD, MEDIUM, SMALL, tiers

if TYPE_CHECKING:
    from collections.abc import Iterator


MISTAKES = [
    ("teirs: []", ["teirs: unknown key", "did you mean tiers"]),
    ("zebra: red", ["zebra: unknown key", *Config.model_fields]),
    (
        tiers(SMALL, MEDIUM, CLOUD.replace("}", ", optoins: {}}")),
        ["tiers[2].optoins: unknown key", "did you mean options"],
    ),
    (
        tiers(SMALL, MEDIUM, CLOUD.replace("}", ", colour: red}")),
        ["tiers[2].colour: unknown key", *Tier.model_fields],
    ),
    (
        "models: [{id: x, repo: a/b, alias: [x]}]",
        ["models[0].alias: unknown key", "did you mean aliases"],
    ),
    (
        "models: [{id: x, repo: a/b, colour: red}]",
        ["models[0].colour: unknown key", *UserModel.model_fields],
    ),
    (tiers(SMALL, MEDIUM, "{name: cloud, complexity: 8-10}"), ["tiers[2]", "'model' is missing"]),
    (tiers(SMALL, MEDIUM, "{name: cloud, model: x}"), ["tiers[2]", "'complexity' is missing"]),
    ("models: [{repo: a/b}]", ["models[0]", "'id' is missing"]),
    ("tiers: []", ["tiers:", "complexity 1;", "each of 1-10"]),
    ("tiers: small", ["tiers:", "'small'", "expected a list"]),
    (
        tiers(SMALL.replace("1-4", "1-5"), MEDIUM, CLOUD),
        ["tiers:", "complexity 5", "small and medium"],
    ),
    (tiers(SMALL.replace("1-4", "1-3"), MEDIUM, CLOUD), ["tiers:", "complexity 4", "1-10"]),
    (tiers(SMALL, MEDIUM), ["tiers:", "complexity 8", "1-10"]),
    *[
        (
            tiers(SMALL.replace("1-4", span), MEDIUM, CLOUD),
            ["tiers[0].complexity", repr(span), "such as 1-4 within 1-10"],
        )
        for span in ("0-4", "4-1", "1-11", "low", "1-4-7", "1.5-4")
    ],
    (
        tiers(SMALL, MEDIUM.replace("name: medium", "name: small"), CLOUD),
        ["tiers:", "same name", "small, small, cloud"],
    ),
    (
        tiers(SMALL.replace("small", "Small"), MEDIUM, CLOUD),
        ["tiers[0].name", "'Small'", "lower-case letters"],
    ),
    ("rules: {words: a}", ["rules", "found {'words': 'a'}", "expected a list"]),
    ("rules: [a]", ["rules[0]", "found 'a'", "expected keys and values: name, words, regex"]),
    ("rules: [{wrods: a, tier: cloud}]", ["rules[0].wrods: unknown key, did you mean words"]),
    ("rules: [{words: a}]", ["rules[0]", "decides nothing, expected one of complexity, task"]),
    (
        "rules: [{complexity: 3, tier: cloud}]",
        ["rules[0]", "found complexity and tier, expected only one of them"],
    ),
    ("rules: [{complexity: 11}]", ["rules[0].complexity", "found 11", "10"]),
    ("rules: [{tier: clod}]", ["rules[0].tier", "'clod'", "did you mean cloud"]),
    ("rules: [{forbid: [small, clod]}]", ["rules[0].forbid", "'clod'", "did you mean cloud"]),
    ("rules: [{task: theory}]", ["rules[0].task", "'theory'", "no task of that name"]),
    ("rules: [{place: cloud}]", ["rules[0].place", "found 'cloud'", "expected here"]),
    ("rules: [{tier: cloud, place: here}]", ["rules[0].tier", "cloud", "contradicts place: here"]),
    ("rules: [{tier: small, forbid: small}]", ["rules[0]", "both chosen and forbidden"]),
    ("rules: [{words: [yes], tier: small}]", ["rules[0].words", "found [True]", "in quotes"]),
    ("rules: [{words: [], tier: small}]", ["rules[0].words", "found []", "a list of texts"]),
    ("rules: [{words: '', tier: small}]", ["rules[0].words", "found ''", "a list of texts"]),
    ("rules: [{words: , tier: small}]", ["rules[0].words", "found nothing", "a list of texts"]),
    ("rules: [{regex: '(', tier: small}]", ["rules[0].regex", "found '('", "not a valid pattern"]),
    ("rules: [{length: 5, tier: small}]", ["rules[0].length", "found 5", "2000+ or 100-500"]),
    ("rules: [{length: 9-5, tier: small}]", ["rules[0].length", "found '9-5'", "2000+"]),
    ("rules: [{time: 25-3, tier: small}]", ["rules[0].time", "found '25-3'", "22:00-6:00"]),
    ("rules: [{time: 9-9, tier: small}]", ["rules[0].time", "found '9-9'", "22:00-6:00"]),
    ("rules: [{time: 9:61-10, tier: small}]", ["rules[0].time", "found '9:61-10'"]),
    ("rules: [{script: cyrilic, tier: small}]", ["rules[0].script", "did you mean cyrillic"]),
    ("rules: [{secrets: card, place: here}]", ["rules[0].secrets", "did you mean cards"]),
    ("rules: [{secrets: false, place: here}]", ["rules[0].secrets", "found False", "true, or"]),
    ("rules: [{schema: x, tier: small}]", ["rules[0].schema", "found 'x'", "true or false"]),
    ("rules: [{name: A b, tier: small}]", ["rules[0].name", "'A b'", "lower-case letters"]),
    (
        "rules: [{name: a, tier: small}, {name: a, tier: cloud}]",
        ["rules", "two rules have the same name, found a"],
    ),
    ("memory_limit: lots", ["memory_limit", "'lots'", "GB"]),
    ("memory_limit: 12 parsecs", ["memory_limit", "'12 parsecs'", "GB"]),
    ("memory_limit: -5", ["memory_limit", "-5", "GB"]),
    ("memory_limit: 0", ["memory_limit", "0"]),
    ("tasks: {haiku: 11}", ["tasks", "haiku", "found 11", "1 to 10"]),
    ("tasks: {haiku: 0}", ["tasks", "haiku", "found 0", "1 to 10"]),
    ("tasks: {haiku: 3.5}", ["tasks.haiku", "found 3.5", "a whole number from 1 to 10"]),
    ("tasks: {haiku: hard}", ["tasks.haiku", "found 'hard'", "a whole number from 1 to 10"]),
    ("budget: {day: lots}", ["budget.day", "found 'lots'", "expected dollars, such as 1.50"]),
    ("budget: {day: -1}", ["budget.day", "found -1", "greater than or equal to 0"]),
    ("budget: {day: .nan}", ["budget.day", "finite"]),
    ("budget: {week: 1}", ["budget.week: unknown key; known are day, month, unpriced"]),
    ("budget: {unpriced: maybe}", ["budget.unpriced", "found 'maybe'", "skip or allow"]),
    ("budget: 5", ["budget", "found 5", "expected keys and values: day, month, unpriced"]),
    ("cache: {ttl: 7}", ["cache.ttl", "found 7", "such as 12h, 7d or 4w"]),
    ("cache: {ttl: 0d}", ["cache.ttl", "found '0d'"]),
    ("cache: {ttl: 999999w}", ["cache.ttl", "found '999999w'", "such as 12h, 7d or 4w"]),
    ("cache: {temperature_max: -1}", ["cache.temperature_max", "found -1"]),
    ("cache: often", ["cache", "found 'often'", "expected keys and values: enabled, ttl"]),
    ("electricity: {watts: 40}", ["electricity", "'price_per_kwh' is missing"]),
    ("electricity: {price_per_kwh: 0.3, watts: 0}", ["electricity.watts", "found 0"]),
    ("tasks: {haiku: {cache: true}}", ["tasks.haiku", "'complexity' is missing"]),
    ("tasks: {haiku: {complexity: 2, cash: true}}", ["tasks.haiku.cash", "did you mean cache?"]),
    ("tasks: [haiku]", ["tasks", "found ['haiku']", "expected keys and values"]),
    ("rollout: 25%", ["rollout", "found '25%'", "expected keys and values"]),
    ("models: x", ["models", "found 'x'", "expected a list"]),
    ("default_complexity: 11", ["default_complexity", "found 11", "10"]),
    ("default_complexity: 0", ["default_complexity", "found 0", "1"]),
    ("fallback: maybe", ["fallback", "found 'maybe'", "any, local or none"]),
    ("local_only: perhaps", ["local_only", "found 'perhaps'", "true or false"]),
    ("models: [{id: x}]", ["models[0]", "either 'repo' or 'path'"]),
    ("models: [{id: x, repo: a/b, path: c}]", ["models[0]", "either 'repo' or 'path'"]),
    ("models: [{id: x, repo: b}]", ["models[0].repo", "found 'b'", "/"]),
    ("models: [{id: '', repo: a/b}]", ["models[0].id", "found ''", "at least 1 character"]),
    ("models: [{id: x, path: ~nobody-of-that-name/x}]", ["models[0].path", "~nobody-of-that-name"]),
    ("models: [x]", ["models[0]", "found 'x'", "expected keys and values: id, repo, path"]),
    ("1: 2", ["1", "keys should be strings"]),
    ("- tiers", ["found list", "keys and values"]),
    ("tiers", ["found str", "keys and values"]),
    ("fallback: any\ntiers: [", ["line 2, column 9", "YAML"]),
    ("fallback: any\na: b: c", ["line 2, column 5", "YAML", "not allowed here"]),
    ("fallback: \t\x00", ["YAML"]),
    ("models:\n- {id: 2024-13-01, repo: a/b}", ["YAML", "month"]),
    ("models: !!bool perhaps", ["YAML"]),
    ("models: !!int ''", ["YAML"]),
    ("models: !!timestamp soon", ["YAML"]),
    ("models: " + "[" * 1_000, ["YAML", "nested"]),
]


def test_mistake_is_one_line(config_file: Path) -> None:
    """A mistake is one line with the file, the key, its value and the allowed values."""
    wrong = {}
    for text, words in MISTAKES:
        config_file.write_text(text)
        try:
            load_settings()
            message = "no error"
        except ConfigError as error:
            message = str(error)
        start, _, description = message.partition(": ")
        missing = [word for word in words if word not in description]
        if start != str(config_file) or len(message.splitlines()) != 1 or missing:
            wrong[text] = (message, missing)
    assert wrong == {}


def test_every_mistake_has_its_line(config_file: Path) -> None:
    """Several mistakes are reported together, each in a line of its own with the file."""
    config_file.write_text("fallback: maybe\nteirs: []\ndefault_complexity: 11")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{config_file}: ") for line in lines)


def test_aliases_that_are_damaged(config_file: Path, user_path: Path) -> None:
    """A damaged aliases.json is named in the error."""
    config_file.write_text("fallback: any")
    (user_path / "aliases.json").write_text("{broken")
    with pytest.raises(ConfigError, match=r"aliases\.json can't be read"):
        load_settings()


def test_file_that_is_not_utf8(config_file: Path) -> None:
    """A file in another encoding is an error that says so."""
    config_file.write_bytes("fallback: any # größer".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        load_settings()
    assert str(config_file) in str(caught.value)


def test_folder_in_the_place_of_the_file(config_file: Path) -> None:
    """A folder in place of the file is an error with its path."""
    config_file.mkdir()
    with pytest.raises(ConfigError, match="can't be read: Is a directory") as caught:
        load_settings()
    assert str(config_file) in str(caught.value)
    assert declared_models() == ()


def test_file_in_the_place_of_the_folder(config_file: Path) -> None:
    """A file in place of the config's folder is an error with its path."""
    config_file.parent.rmdir()
    config_file.parent.write_text("")
    with pytest.raises(ConfigError, match="can't be read: Not a directory") as caught:
        load_settings()
    assert str(config_file) in str(caught.value)
    assert declared_models() == ()


@pytest.fixture(params=["file", "folder"])
def locked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config file that can't be read because it, or its folder, belongs to somebody else."""
    # pytest's own folders are closed to others, and root may read everything: this one is open,
    # and the test gives root's rights up for its duration.
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("LLM_USER_PATH", name)
        path = config_path()
        path.parent.mkdir()
        path.write_text("models: [{id: x, repo: a/b}]")
        closed = path if request.param == "file" else path.parent
        was_root = os.geteuid() == 0
        Path(name).chmod(0o755)
        closed.chmod(0)
        if was_root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if was_root:
                os.seteuid(0)
            closed.chmod(0o700)


def test_file_that_may_not_be_read(locked: Path) -> None:
    """A file without read permission is an error with its path."""
    with pytest.raises(ConfigError, match="can't be read: Permission denied") as caught:
        load_settings()
    assert str(locked) in str(caught.value)


@pytest.mark.usefixtures("locked")
def test_file_that_may_not_be_read_declares_no_models() -> None:
    """A file without read permission does not keep llm from starting."""
    assert declared_models() == ()
    assert len(local_models()) == len(CATALOG)


def test_mistake_leaves_declared_models_working(config_file: Path) -> None:
    """None of these mistakes keeps llm from starting, and none of them registers a model."""
    declared = {}
    for text, _ in MISTAKES:
        config_file.write_text(text)
        declared[text] = [model.id for model in declared_models()]
    assert {text: ids for text, ids in declared.items() if ids} == {}


def test_mistake_elsewhere_keeps_the_models(config_file: Path) -> None:
    """A mistake in another section does not remove the user's models."""
    config_file.write_text("fallback: maybe\nmodels: [{id: x, repo: a/b}]")
    assert [model.id for model in declared_models()] == ["mlx/x"]


def test_wrong_model_leaves_the_others(config_file: Path) -> None:
    """A model with a mistake is left out, and the others stay."""
    config_file.write_text("models: [{id: x, repo: a/b}, {id: y}, nonsense, {id: z, path: z}]")
    assert [model.id for model in declared_models()] == ["mlx/x", "mlx/z"]


def test_mistake_is_reported_every_time(config_file: Path) -> None:
    """A mistake is reported on every load until the file is changed."""
    config_file.write_text("fallback: maybe")
    for _ in range(2):
        with pytest.raises(ConfigError, match="maybe"):
            load_settings()
    config_file.write_text("fallback: local")
    assert load_settings().config.fallback == "local"
