"""The settings in force, with and without a config file."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import llm
import pytest
import yaml

from llm_tiered.config import local_models
from llm_tiered.config.sections import DEFAULT_TASKS, Budget, Cache, Config, Task
from llm_tiered.config.settings import Settings, held_settings, load_settings
from llm_tiered.config.tiers import Tier
from llm_tiered.config.user_models import declared_models
from llm_tiered.config.values import Span
from tests.tiers import CLOUD, MEDIUM, SMALL, tiers


def _spans(settings: Settings) -> list[str]:
    return [str(tier.complexity) for tier in settings.tiers]


def _touch(path: Path) -> None:
    """Make the file a second older, so that its modification time is certain to change."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))


# The defaults and the example


def test_no_file_gives_the_defaults() -> None:
    """Without a file, every value is a default."""
    assert load_settings() == Settings(Config(), None, {})


def test_defaults_pass_the_checks() -> None:
    """The defaults, which are not checked when they are used, are what the checks would give."""
    assert Config.model_validate(Config().model_dump(mode="json")) == Config()


def test_default_tiers() -> None:
    """By default there is a small, a medium and a cloud tier."""
    assert [
        (tier.name, str(tier.complexity), tier.model, tier.place) for tier in Config().tiers
    ] == [
        ("small", "1-4", "mlx/Phi-3.5-mini-instruct-4bit", "here"),
        ("medium", "5-7", "mlx/Qwen2.5-7B-Instruct-4bit", "here"),
        ("cloud", "8-10", "gemini/gemini-flash-latest", "cloud"),
    ]


def test_example_file_equals_the_defaults(config_file: Path) -> None:
    """The example file changes nothing if it is used unedited."""
    example = files("llm_tiered.config").joinpath("example.yaml").read_text("utf-8")
    config_file.write_text(example, "utf-8")
    assert load_settings().config == Config()


def test_example_file_shows_every_key() -> None:
    """The example file has every key, in the order of the code."""
    example = files("llm_tiered.config").joinpath("example.yaml").read_text("utf-8")
    assert list(yaml.safe_load(example)) == list(Config.model_fields)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_empty_file_gives_the_defaults(config_file: Path, text: str) -> None:
    """An empty file changes nothing."""
    config_file.write_text(text)
    assert load_settings() == Settings()


def test_byte_order_mark_does_not_matter(config_file: Path) -> None:
    """A file with a byte order mark is read like any other."""
    config_file.write_text("fallback: local\n", "utf-8-sig")
    assert load_settings().config.fallback == "local"


# Values in the file


def test_users_tasks_are_added_to_the_defaults(config_file: Path) -> None:
    """A user's task is added to the default ones or changes one of them; the others stay."""
    config_file.write_text("tasks: {haiku: 2, tutorial_generation: 9}")
    own = {name: Task(complexity=n) for name, n in (("haiku", 2), ("tutorial_generation", 9))}
    assert load_settings().config.tasks == DEFAULT_TASKS | own


def test_task_with_more_to_say(config_file: Path) -> None:
    """A task can have more settings than its complexity, and is tasks as it was written."""
    config_file.write_text("tasks: {haiku: {complexity: 2, cache: true}, ode: 3}")
    loaded = load_settings().config
    assert loaded.tasks["haiku"] == Task(complexity=2, cache=True)
    tasks = loaded.model_dump(mode="json")["tasks"]
    assert (tasks["haiku"], tasks["ode"]) == ({"complexity": 2, "cache": True}, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", Cache()),
        ("false", Cache(enabled=False)),
        ("{ttl: 7d}", Cache(ttl=timedelta(days=7))),
        ("{ttl: 90m, temperature_max: 0.5}", Cache(ttl=timedelta(hours=1.5), temperature_max=0.5)),
        ("{enabled: false, ttl: 2w}", Cache(enabled=False, ttl=timedelta(weeks=2))),
    ],
)
def test_cache(config_file: Path, text: str, expected: Cache) -> None:
    """The cache is a switch, or has limits on age and temperature."""
    config_file.write_text(f"cache: {text}")
    assert load_settings().config.cache == expected


def test_budget_in_dollars(config_file: Path) -> None:
    """The budget is exact: dollars are not rounded."""
    config_file.write_text("budget: {day: 0.10, month: 20}")
    assert load_settings().config.budget == Budget(day=Decimal("0.1"), month=Decimal(20))


def test_tiers_are_sorted_by_complexity(config_file: Path) -> None:
    """The order of the tiers in the file does not matter."""
    config_file.write_text(tiers(CLOUD, SMALL, MEDIUM))
    assert [tier.name for tier in load_settings().tiers] == ["small", "medium", "cloud"]


def test_tier_of_one_number(config_file: Path) -> None:
    """A range may be a single number."""
    config_file.write_text(
        tiers("{name: all, complexity: 1 - 9, model: phi}", "{name: top, complexity: 10, model: x}")
    )
    assert _spans(load_settings()) == ["1-9", "10"]


def test_memory_limit_is_in_bytes(config_file: Path) -> None:
    """A memory limit is written with a unit and read as bytes."""
    config_file.write_text("memory_limit: 12GB")
    assert load_settings().config.memory_limit == 12_000_000_000


@pytest.mark.parametrize("name", ["small", "cloud"])
def test_tier_by_name(name: str) -> None:
    """A tier is found by its name."""
    tier = Settings().tier(name)
    assert tier is not None
    assert tier.name == name


def test_no_tier_of_that_name() -> None:
    """An unknown tier is None."""
    assert Settings().tier("huge") is None


def test_settings_can_not_be_changed() -> None:
    """Settings are shared by all requests, so they can't be changed."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().config.local_only = True


@pytest.mark.parametrize(
    ("in_file", "force", "expected"),
    [
        (False, None, False),
        (False, False, False),
        (False, True, True),
        (True, None, True),
        (True, False, True),
        (True, True, True),
    ],
)
def test_local_only_is_never_undone(in_file: bool, force: bool | None, expected: bool) -> None:
    """The file and the environment can each keep requests here; neither can undo that."""
    assert Settings(Config(local_only=in_file), force).local_only is expected


# Names of models


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi", "mlx/Phi-3.5-mini-instruct-4bit"),
        ("qwen3", "mlx/Qwen3-8B-4bit"),
        ("smollm2", "mlx/SmolLM2-135M-Instruct"),
        ("mlx/Qwen3-4B-4bit", "mlx/Qwen3-4B-4bit"),
        ("gemini-flash-latest", "gemini-flash-latest"),
        ("mine", "mlx/my-model"),
        ("mlx/my-model", "mlx/my-model"),
        ("my-model", "mlx/my-model"),
    ],
)
def test_aliases_in_tiers_become_ids(config_file: Path, name: str, expected: str) -> None:
    """A tier may name its model by any alias of the catalog or the config's models."""
    config_file.write_text(
        tiers(f"{{name: all, complexity: 1-10, model: {name}}}")
        + "\nmodels: [{id: my-model, repo: me/my-model, aliases: [mine]}]"
    )
    assert load_settings().tiers[0].model == expected


@pytest.mark.parametrize("name", ["big", "phi"])
def test_alias_of_the_user_in_a_tier(config_file: Path, user_path: Path, name: str) -> None:
    """A user's alias means its model, which decides whether the tier is local."""
    config_file.write_text(tiers(SMALL, MEDIUM.replace("qwen", name), CLOUD))
    aliases = {"big": "mlx/Qwen3-8B-4bit", "phi": "gemini/gemini-2.5-flash"}
    (user_path / "aliases.json").write_text(json.dumps(aliases))
    tier = load_settings().tiers[1]
    assert tier.model == llm.get_model(name).model_id
    assert (tier.place == "here") is (name == "big")


def test_tier_and_llm_agree_on_an_alias(config_file: Path) -> None:
    """An alias that the config takes from the catalog means the same model to a tier and to llm."""
    config_file.write_text(
        tiers("{name: all, complexity: 1-10, model: phi}")
        + "\nmodels: [{id: mlx/mine, repo: me/mine, aliases: [phi]}]"
    )
    assert load_settings().tiers[0].model == llm.get_model("phi").model_id


@pytest.mark.parametrize(
    ("id_", "expected"), [("my-model", "mlx/my-model"), ("mlx/my-model", "mlx/my-model")]
)
def test_users_model_has_the_prefix(config_file: Path, id_: str, expected: str) -> None:
    """The id of a user's model begins with mlx/, even if it is written without."""
    config_file.write_text(f"models: [{{id: {id_}, repo: me/my-model}}]")
    assert load_settings().config.models[0].id == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("my-model", "{folder}/my-model"),
        ("../my-model", "{folder}/../my-model"),
        ("~/models/my-model", "{home}/models/my-model"),
        ("/models/my-model", "/models/my-model"),
    ],
)
def test_path_of_a_model(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str
) -> None:
    """A path is relative to the config's folder, and ~ is the home directory."""
    monkeypatch.setenv("HOME", "/home/somebody")
    config_file.write_text(f"models: [{{id: my-model, path: {path}}}]")
    path_of_the_model = Path(expected.format(folder=config_file.parent, home="/home/somebody"))
    assert load_settings().config.models[0].path == path_of_the_model
    assert declared_models()[0].path == path_of_the_model


# Loading again


def test_unchanged_file_is_not_read_again(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing changes, the settings are not loaded again."""
    config_file.write_text("fallback: local")
    first = load_settings()

    def read(*_: Any, **__: Any) -> str:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(Path, "read_text", read)
    assert load_settings() is first


def test_changed_file_is_read_again(config_file: Path) -> None:
    """A file that is created, changed or deleted takes effect with the next request."""
    config_file.write_text("default_complexity: 3")
    assert load_settings().config.default_complexity == 3
    config_file.write_text("default_complexity: 4")
    _touch(config_file)
    assert load_settings().config.default_complexity == 4
    config_file.unlink()
    assert load_settings().config.default_complexity == 5


def test_changed_environment_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed variable takes effect with the next request."""
    assert load_settings().force_local is None
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    assert load_settings().force_local is True
    monkeypatch.setenv("COMPLEXITY_SMALL", "3")
    assert _spans(load_settings()) == ["1-3", "4-7", "8-10"]


def test_other_user_directory_has_its_own_config(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config belongs to llm's user directory."""
    config_file.write_text("fallback: local")
    assert load_settings().config.fallback == "local"
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "other"))
    assert load_settings().config.fallback == "any"


def test_empty_span_covers_nothing() -> None:
    """An empty range covers no complexity."""
    tier = Tier(name="small", complexity=Span(5, 4), model="phi")
    assert not any(tier.covers(complexity) for complexity in range(1, 11))


def test_alias_of_another_plugin(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another plugin's model in llm is not taken for a local model's alias."""
    config_file.write_text(tiers("{name: all, complexity: 1-10, model: qwen}"))
    monkeypatch.setattr(local_models, "_taken", None)
    assert load_settings().tiers[0].model == "mlx/Qwen2.5-7B-Instruct-4bit"
    local_models.note_taken(["qwen"])
    assert load_settings().tiers[0].model == "qwen"
    assert load_settings().tiers[0].place == "cloud"


def test_held_settings(config_file: Path) -> None:
    """What holds the settings does not notice a change; what comes after it does."""
    config_file.write_text("local_only: true")
    with held_settings() as held:
        config_file.write_text("local_only: false # changed")
        assert load_settings() is held
        assert load_settings().local_only
    assert not load_settings().local_only


# A file that is being saved


@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_file_that_is_being_saved(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What an editor has emptied or removed for a moment is read once it is whole again."""
    config_file.write_text("local_only: true")
    assert load_settings().local_only
    parts = ["log_api: false\n", "log_api: false\nlocal_only: true\n"]

    def write(_: float) -> None:
        if parts:
            config_file.write_text(parts.pop(0))

    monkeypatch.setattr("llm_tiered.config.settings.time.sleep", write)
    if how == "emptied":
        config_file.write_text("")
    else:
        config_file.unlink()
    settings = load_settings()
    assert settings.local_only
    assert not settings.config.log_api


def test_file_that_always_changes(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not stay the same is read all the same."""
    config_file.write_text("local_only: true")
    assert load_settings().local_only

    def write(_: float) -> None:
        config_file.write_text(f"{config_file.read_text()}\n")

    monkeypatch.setattr("llm_tiered.config.settings.time.sleep", write)
    write(0)
    assert load_settings().local_only
