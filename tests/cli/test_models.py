from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered.mlx.catalog import CATALOG
from tests.cli.commands import EMBEDDED, cut_short, invoke, prompt, refused, run, run_json, tier

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub_server import HubServer

SAY = ("-n", "-o", "max_tokens", "4", "Hello")

CONFIG = """\
# My own config.

default_complexity: 4 # easy things

models: # mine
  # the first of them
  - id: mlx/first # not used any more
    repo: owner/first

  # the second of them
  - id: second
    repo: owner/second

# Who may answer.
fallback: local
"""


@pytest.fixture
def commented(config_file: Path) -> Path:
    """A config with comments everywhere and two models."""
    config_file.write_text(CONFIG)
    return config_file


def listed() -> dict[str, dict[str, Any]]:
    """The models that `models list` shows, by id."""
    return {entry["model"]: entry for entry in run_json("models", "list")}


def own() -> list[dict[str, Any]]:
    """The models in the config file."""
    path = llm.user_dir() / "tiered" / "config.yaml"
    models: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))["models"]
    return models


def comments(text: str) -> list[str]:
    """All comments of a YAML text."""
    return sorted(line[line.index("#") :] for line in text.splitlines() if "#" in line)


def test_lists_the_catalog() -> None:
    """Every model of the catalog is listed with its facts."""
    models = listed()
    assert list(models) == [spec.model_id for spec in CATALOG]
    assert models["mlx/Phi-3.5-mini-instruct-4bit"] == {
        "model": "mlx/Phi-3.5-mini-instruct-4bit",
        "aliases": ["phi", "phi-3.5"],
        "parameters": 3_800_000_000,
        "from_config": False,
        "local": True,
        "source": "mlx-community/Phi-3.5-mini-instruct-4bit",
        "on_disk": False,
        "size": 2_300_000_000,
    }


@pytest.mark.parametrize("arguments", [["models"], ["models", "list"]])
def test_lists_them_as_a_table(embedded_model: Path, arguments: list[str]) -> None:
    """Without --json the output is a table; `models` alone does the same."""
    header, *rows = run(*arguments).stdout.splitlines()
    assert header.split() == ["model", "aliases", "size", "from"]
    assert len(rows) == len(CATALOG)
    [phi] = [row for row in rows if row.startswith("mlx/Phi-3.5-mini-instruct-4bit ")]
    assert phi.split()[1:5] == ["phi,", "phi-3.5", "2.3", "GB"]
    [smollm2] = [row for row in rows if row.startswith(EMBEDDED)]
    assert " 1 MB  " in smollm2
    assert " on disk " in smollm2


def test_lists_those_of_the_config(tiny: Path, tiny_tiers: Path) -> None:
    """The config's models are marked as such and have their files."""
    entry = listed()["mlx/tiny"]
    assert entry["from_config"] is True
    assert entry["on_disk"] is True
    assert entry["path"] == entry["source"] == str(tiny)
    assert entry["aliases"] == ["wee"]
    assert entry["size"] == (tiny / "model.safetensors").stat().st_size


def test_lists_a_damaged_model(tiny: Path, tiny_tiers: Path) -> None:
    """A damaged model is listed with the error."""
    cut_short(tiny)
    assert "model.safetensors is damaged" in listed()["mlx/tiny"]["error"]
    [row] = [line for line in run("models").stdout.splitlines() if line.startswith("mlx/tiny ")]
    assert "model.safetensors is damaged" in row


def test_adds_a_folder(tiny: Path) -> None:
    """A folder is added under its own name, and llm can use it immediately."""
    assert run("models", "add", str(tiny)).stdout == "mlx/tiny added: llm -m mlx/tiny '…'\n"
    assert own() == [{"id": "tiny", "path": str(tiny)}]
    assert prompt("-m", "mlx/tiny", *SAY)


def test_adds_a_folder_with_id_and_aliases(tiny: Path) -> None:
    """A model with an id and aliases can be used by its aliases."""
    result = run("models", "add", str(tiny), "--id", "mlx/mine", "-a", "wee", "--alias", "small1")
    assert result.stdout == "mlx/mine added: llm -m wee '…'\n"
    assert prompt("-m", "wee", *SAY)
    assert prompt("-m", "small1", *SAY)


def test_adds_a_folder_by_a_relative_path(
    tiny: Path, user_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path works from every folder."""
    monkeypatch.chdir(tiny.parent)
    run("models", "add", "tiny", "-a", "wee")
    monkeypatch.chdir(user_path)
    assert prompt("-m", "wee", *SAY)


def test_adds_a_repository(server: HubServer) -> None:
    """A repository is added without a request; the first prompt downloads it."""
    run("models", "add", "tiny/model", "-a", "wee")
    assert own() == [{"id": "model", "repo": "tiny/model", "aliases": ["wee"]}]
    assert not server.requests
    assert prompt("-m", "wee", *SAY)


def test_adding_keeps_the_rest_of_the_config(tiny: Path, commented: Path) -> None:
    """Adding a model keeps all comments and keys, and the config stays valid."""
    run("models", "add", str(tiny))
    assert comments(commented.read_text()) == comments(CONFIG)
    before = yaml.safe_load(CONFIG)
    before["models"].append({"id": "tiny", "path": str(tiny)})
    assert yaml.safe_load(commented.read_text()) == before


def test_adds_to_the_example(tiny: Path) -> None:
    """Models can be added to the file that `config init` writes, and its comments stay."""
    path = llm.user_dir() / "tiered" / "config.yaml"
    run("config", "init")
    before = path.read_text("utf-8")
    run("models", "add", str(tiny))
    assert comments(path.read_text("utf-8")) == comments(before)
    assert own() == [{"id": "tiny", "path": str(tiny)}]
    run("models", "remove", "tiny")
    assert path.read_text("utf-8") == before


@pytest.mark.parametrize(
    "what", ["an empty folder", "a file", "damage", "nothing", "three/part/s", "./none", "../none"]
)
def test_refuses_a_source_without_a_model(tmp_path: Path, tiny: Path, what: str) -> None:
    """A source that is neither a model's folder nor a repository creates no config."""
    source = tmp_path / "source"
    if what == "an empty folder":
        source.mkdir()
    elif what == "a file":
        source.touch()
    elif what == "damage":
        cut_short(tiny)
        source = tiny
    name = what if "/" in what else str(source)
    assert name in refused("models", "add", name)
    assert not (llm.user_dir() / "tiered" / "config.yaml").exists()


def test_refuses_an_impossible_repository(commented: Path) -> None:
    """A name that no repository can have is an error, and the config does not change."""
    assert "three/part/s" in refused("models", "add", "three/part/s")
    assert commented.read_text() == CONFIG


@pytest.mark.parametrize("name", ["first", "mlx/first", "second", "Phi-4-mini-instruct-4bit"])
def test_refuses_an_id_that_is_taken(tiny: Path, commented: Path, name: str) -> None:
    """An existing id is an error, and the config does not change."""
    message = refused("models", "add", str(tiny), "--id", name)
    assert message.endswith(" already exists (--id NAME)")
    assert commented.read_text() == CONFIG


@pytest.mark.parametrize("name", ["mlx/", " "])
def test_refuses_an_id_that_is_empty(tiny: Path, commented: Path, name: str) -> None:
    """An id with nothing after the prefix is an error."""
    refused("models", "add", str(tiny), "--id", name)
    assert commented.read_text() == CONFIG


@pytest.mark.parametrize("alias", ["gpt-4o", "mine", "tiered"])
def test_refuses_an_alias_that_is_taken(tiny: Path, tiny_tiers: Path, alias: str) -> None:
    """An alias of another plugin's model, or one of the user's, is an error."""
    invoke("aliases", "set", "mine", "gpt-4o")
    before = tiny_tiers.read_text()
    assert alias in refused("models", "add", str(tiny), "--id", "other", "-a", alias)
    assert tiny_tiers.read_text() == before


def test_an_alias_of_the_catalog_can_be_had(tiny: Path) -> None:
    """An alias of the catalog can be taken by a model of the config, for prompts and tiers."""
    run("models", "add", str(tiny), "-a", "phi")
    assert prompt("-m", "phi", *SAY)
    path = llm.user_dir() / "tiered" / "config.yaml"
    tiers = [tier("all", "1-10", "phi")]
    path.write_text(yaml.safe_dump({"tiers": tiers, "models": own()}))
    assert run_json("route", "Hello")["model"] == "mlx/tiny"


def test_refuses_to_touch_a_broken_config(tiny: Path, config_file: Path) -> None:
    """A config that can't be read is not changed."""
    config_file.write_text("models: [")
    assert "not valid YAML" in refused("models", "add", str(tiny))
    assert config_file.read_text() == "models: ["


def test_refuses_to_touch_duplicate_keys(tiny: Path, config_file: Path) -> None:
    """A config with a duplicate key is not changed, as one of the two would be lost."""
    text = "fallback: any\nfallback: local\n"
    config_file.write_text(text)
    assert "fallback" in refused("models", "add", str(tiny))
    assert config_file.read_text() == text


@pytest.mark.parametrize("name", ["tiny", "mlx/tiny"])
def test_removes_a_model(tiny: Path, name: str) -> None:
    """A model is removed by its id, with or without the prefix, and its files stay."""
    run("models", "add", str(tiny), "-a", "wee")
    assert run("models", "remove", name).stdout == "mlx/tiny removed from the config\n"
    assert own() == []
    assert "mlx/tiny" not in listed()
    assert (tiny / "model.safetensors").exists()
    assert "Unknown model: wee" in invoke("-m", "wee", "Hello", code=1).stderr


@pytest.mark.parametrize("name", ["first", "second"])
def test_removes_no_other_model(commented: Path, name: str) -> None:
    """Removing a model keeps the other model and all keys."""
    run("models", "remove", name)
    before = yaml.safe_load(CONFIG)
    before["models"] = [entry for entry in before["models"] if not entry["id"].endswith(name)]
    assert yaml.safe_load(commented.read_text()) == before


@pytest.mark.parametrize("name", ["first", "second"])
def test_removing_keeps_the_comments(commented: Path, name: str) -> None:
    """Removing a model keeps all comments except those on the models."""
    run("models", "remove", name)
    lost = set(comments(CONFIG)) - set(comments(commented.read_text()))
    assert lost <= {"# the first of them", "# not used any more", "# the second of them"}


def test_removes_the_last_model(commented: Path) -> None:
    """A config whose last model was removed is valid."""
    run("models", "remove", "first")
    run("models", "remove", "second")
    assert own() == []
    assert run("config", "check").stdout == f"{commented} is valid\n"


@pytest.mark.parametrize("name", ["third", "phi", "Phi-4-mini-instruct-4bit"])
def test_removes_only_those_of_the_config(commented: Path, name: str) -> None:
    """A model that is not in the config is an error that lists those that are."""
    message = refused("models", "remove", name)
    assert message.endswith(" is not one of the config's models (mlx/first, mlx/second)")
    assert commented.read_text() == CONFIG


def test_removes_nothing_where_nothing_is() -> None:
    """Without a config there is nothing to remove."""
    assert refused("models", "remove", "x") == "mlx/x is not one of the config's models (none)"
