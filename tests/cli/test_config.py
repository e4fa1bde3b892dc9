from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cli.commands import configure, refused, run, run_json, tier

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {
    "tiers",
    "tasks",
    "default_complexity",
    "fallback",
    "local_only",
    "private",
    "allow_cpu",
    "log_api",
    "memory_limit",
    "keep_warm",
    "kv_disk",
    "rollout",
    "rules",
    "escalate_stuck",
    "estimate",
    "cache",
    "budget",
    "electricity",
    "models",
    "force_local",
}


def show() -> dict[str, dict[str, Any]]:
    """The output of `config show --json`."""
    values: dict[str, dict[str, Any]] = run_json("config", "show")
    return values


def values() -> dict[str, Any]:
    """The values in force, without their sources."""
    return {key: entry["value"] for key, entry in show().items()}


def test_path_says_where_it_belongs(user_path: Path) -> None:
    """The path is shown whether or not the file exists, and no file is created."""
    path = user_path / "tiered" / "config.yaml"
    assert run("config", "path").stdout == f"{path}\n"
    assert not path.exists()


def test_path_of_a_broken_config(config_file: Path) -> None:
    """The path of a broken config is shown too, so that it can be edited."""
    config_file.write_text("tiers: [")
    assert run("config", "path").stdout == f"{config_file}\n"


def test_show_has_every_default() -> None:
    """Without a file, every value is shown with the source default."""
    settings = show()
    assert set(settings) == KEYS
    assert {entry["from"] for entry in settings.values()} == {"default"}
    assert settings["default_complexity"]["value"] == 5
    assert [entry["complexity"] for entry in settings["tiers"]["value"]] == ["1-4", "5-7", "8-10"]


def test_show_says_where_each_value_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value is shown with its source: the file, the environment or the defaults."""
    configure(local_only=True, tasks={"juggling": 9}, memory_limit="2GB")
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    monkeypatch.setenv("COMPLEXITY_MEDIUM", "9")
    settings = show()
    assert settings["local_only"] == {"value": True, "from": "config"}
    assert settings["memory_limit"] == {"value": 2_000_000_000, "from": "config"}
    assert settings["force_local"] == {"value": True, "from": "environment"}
    assert settings["tiers"]["from"] == "environment"
    assert [entry["complexity"] for entry in settings["tiers"]["value"]] == ["1-4", "5-9", "10"]
    assert settings["fallback"] == {"value": "any", "from": "default"}
    assert settings["tasks"]["value"].items() >= {"juggling": 9, "theory_analysis": 5}.items()


def test_show_is_yaml() -> None:
    """Without --json the output is YAML, each value after a comment with its source."""
    configure(fallback="local", models=[{"id": "mlx/mine", "repo": "owner/name"}])
    text = run("config", "show").stdout
    assert yaml.safe_load(text) == values()
    assert "# from config\nfallback: local\n" in text
    assert "# from default\nlog_api: true\n" in text


def test_init_writes_the_defaults(user_path: Path) -> None:
    """The example file is written, has comments, is valid, and changes nothing."""
    before = values()
    path = user_path / "tiered" / "config.yaml"
    assert run("config", "init").stdout == f"{path}\n"
    assert path.read_text("utf-8").count("#") > 10
    assert values() == before
    assert {key for key, entry in show().items() if entry["from"] == "default"} == {"force_local"}
    assert run("config", "check").stdout == f"{path} is valid\n"


def test_init_leaves_a_config_alone(config_file: Path) -> None:
    """A second init is an error and does not touch the file."""
    config_file.write_text("fallback: local # mine\n")
    message = refused("config", "init")
    assert message == f"{config_file} already exists (edit it, or remove it first)"
    assert config_file.read_text() == "fallback: local # mine\n"


@pytest.mark.parametrize("command", ["init", "check", "show"])
def test_a_folder_that_is_a_file_is_reported(user_path: Path, command: str) -> None:
    """A file in place of the config's folder is an error of one line."""
    (user_path / "tiered").write_text("I am a file.")
    assert str(user_path / "tiered") in refused("config", command)


def test_check_without_a_file(user_path: Path) -> None:
    """Without a config file, the check succeeds."""
    path = user_path / "tiered" / "config.yaml"
    assert run("config", "check").stdout == f"no config file at {path}; using the defaults\n"


def test_check_of_a_valid_config(tiny_tiers: Path) -> None:
    """A valid config passes the check, with exit code 0."""
    assert run("config", "check").stdout == f"{tiny_tiers} is valid\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiers: [\n- a", "line 2, column 1: not valid YAML"),
        (
            "local_only: true\nlocal_only: false",
            "line 2, column 1: not valid YAML: 'local_only' is",
        ),
        ("tiers:\n- {name: a, name: b}", "column 13: not valid YAML: 'name' is there twice, first"),
        ("- a\n- b", "found list, expected keys and values"),
        ("falback: any", "falback: unknown key, did you mean fallback?"),
        ("fallback: sometimes", "fallback: found 'sometimes', expected any, local or none"),
        ("default_complexity: 11", "default_complexity: found 11"),
        ("tasks: {juggling: 11}", "tasks.juggling.complexity: found 11, expected 1 to 10"),
        ("tiers: [{name: a, complexity: 1-9, model: phi}]", "no tier covers complexity 10"),
        ("tiers: [{name: a, complexity: 1-11, model: phi}]", "found '1-11', expected a range"),
        ("tiers: [{name: a, complexity: 1-10}]", "tiers[0]: 'model' is missing"),
        ("models: [{id: a}]", "models[0]: expected either 'repo' or 'path'"),
    ],
)
def test_check_finds_mistakes(config_file: Path, text: str, message: str) -> None:
    """A mistake is one line with the file, the key, its value and the allowed values."""
    config_file.write_text(text)
    error = refused("config", "check")
    assert error.startswith(f"{config_file}: ")
    assert message in error


def test_check_finds_a_wrong_encoding(config_file: Path) -> None:
    """A file that is not UTF-8 is an error."""
    config_file.write_bytes(b"\xff\xfe")
    assert refused("config", "check") == f"{config_file}: not UTF-8 text"


@pytest.mark.parametrize(
    ("name", "value"),
    [("FORCE_LOCAL_LLM", "perhaps"), ("COMPLEXITY_SMALL", "11"), ("COMPLEXITY_MEDIUM", "x")],
)
def test_check_looks_at_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A variable with a wrong value is named in the error."""
    monkeypatch.setenv(name, value)
    assert refused("config", "check").startswith(f"{name}: found {value!r}, expected ")


def test_check_finds_a_rollback_without_a_cloud(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_LOCAL_LLM=false without a cloud tier is a mistake, as no request could be served."""
    configure(tier("all", "1-10", "mlx/mine"), models=[{"id": "mlx/mine", "path": str(built)}])
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    assert "FORCE_LOCAL_LLM=false" in refused("config", "check")


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("mlx/Phi-3.5-mini-instruct-8bit", ", did you mean mlx/Phi-3.5-mini-instruct-4bit?"),
        ("gemini/nobody-has-this", ""),
        ("xyz", ""),
    ],
)
def test_check_finds_an_unknown_model(model: str, near: str) -> None:
    """A tier with an unknown model is a mistake; the error has the nearest known name."""
    path = configure(tier("all", "1-10", model))
    assert refused("config", "check").startswith(
        f"tier all, model {model}: llm knows no such model{near}"
    )
    assert str(path) in refused("config", "check")


def test_check_finds_a_tier_that_asks_itself() -> None:
    """`tiered` as the model of a tier is a mistake, as it would never end."""
    configure(tier("all", "1-10", "tiered"))
    assert "tiered" in refused("config", "check")


@pytest.mark.parametrize(
    ("model", "option"), [("phi", "colour"), ("gemini/gemini-flash-latest", "max_token")]
)
def test_check_finds_an_option_that_the_model_lacks(model: str, option: str) -> None:
    """An option that the tier's model does not have is a mistake, described in plain words."""
    configure(tier("all", "1-10", model, **{option: 3}))
    message = refused("config", "check")
    assert message.startswith("tier all, model ")
    assert option in message
    assert "pydantic" not in message


def test_check_finds_a_wrong_value_of_an_option() -> None:
    """A value that the option can't have is a mistake."""
    configure(tier("all", "1-10", "phi", temperature=3))
    message = refused("config", "check")
    assert "temperature" in message
    assert "less than or equal to 2" in message


def test_check_finds_every_mistake() -> None:
    """Each mistake has its own line."""
    configure(tier("small", "1-5", "xyz"), tier("large", "6-10", "phi", temperature=3))
    result = run("config", "check", code=1)
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("Error: tier small, model xyz: ")
    assert second.startswith("tier large, model mlx/Phi-3.5-mini-instruct-4bit: ")
