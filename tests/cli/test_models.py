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
    """Give a config with comments everywhere, and two models."""
    config_file.write_text(CONFIG)
    return config_file


def listed() -> dict[str, dict[str, Any]]:
    """Give the models that `models list` shows by their ids."""
    return {entry["model"]: entry for entry in run_json("models", "list")}


def own() -> list[dict[str, Any]]:
    """Give the models of the config file."""
    path = llm.user_dir() / "tiered" / "config.yaml"
    models: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))["models"]
    return models


def comments(text: str) -> list[str]:
    """Give all comments of a YAML text."""
    return sorted(line[line.index("#") :] for line in text.splitlines() if "#" in line)


def test_lists_the_catalog() -> None:
    """Every model of the catalog is there, with what is known of it."""
    found = listed()
    assert list(found) == [spec.model_id for spec in CATALOG]
    assert found["mlx/Phi-3.5-mini-instruct-4bit"] == {
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
    """Without --json it is a table; `models` alone does the same."""
    header, *rows = run(*arguments).stdout.splitlines()
    assert header.split() == ["model", "aliases", "size", "from"]
    assert len(rows) == len(CATALOG)
    [phi] = [row for row in rows if row.startswith("mlx/Phi-3.5-mini-instruct-4bit ")]
    assert phi.split()[1:5] == ["phi,", "phi-3.5", "2.3", "GB"]
    [smollm2] = [row for row in rows if row.startswith(EMBEDDED)]
    assert " 1 MB  " in smollm2
    assert " on disk " in smollm2


def test_lists_those_of_the_config(tiny: Path, tiny_tiers: Path) -> None:
    """The config's models are marked as such, with their files."""
    found = listed()["mlx/tiny"]
    assert found["from_config"] is True
    assert found["on_disk"] is True
    assert found["path"] == found["source"] == str(tiny)
    assert found["aliases"] == ["wee"]
    assert found["size"] == (tiny / "model.safetensors").stat().st_size


def test_lists_what_is_damaged(tiny: Path, tiny_tiers: Path) -> None:
    """A model that is not whole is shown with what is wrong."""
    cut_short(tiny)
    assert "model.safetensors is damaged" in listed()["mlx/tiny"]["error"]
    [row] = [line for line in run("models").stdout.splitlines() if line.startswith("mlx/tiny ")]
    assert "model.safetensors is damaged" in row


def test_adds_a_folder(tiny: Path) -> None:
    """A folder is added under its own name, and llm answers with it at once."""
    assert run("models", "add", str(tiny)).stdout == "mlx/tiny added: llm -m mlx/tiny '…'\n"
    assert own() == [{"id": "tiny", "path": str(tiny)}]
    assert prompt("-m", "mlx/tiny", *SAY)


def test_adds_a_folder_with_id_and_aliases(tiny: Path) -> None:
    """With an id and aliases it is the aliases that one calls it by."""
    result = run("models", "add", str(tiny), "--id", "mlx/mine", "-a", "wee", "--alias", "small1")
    assert result.stdout == "mlx/mine added: llm -m wee '…'\n"
    assert prompt("-m", "wee", *SAY)
    assert prompt("-m", "small1", *SAY)


def test_adds_a_folder_by_a_relative_path(
    tiny: Path, user_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is relative to here works from everywhere."""
    monkeypatch.chdir(tiny.parent)
    run("models", "add", "tiny", "-a", "wee")
    monkeypatch.chdir(user_path)
    assert prompt("-m", "wee", *SAY)


def test_adds_a_repository(server: HubServer) -> None:
    """A repository is added without asking for it; the first prompt downloads it."""
    run("models", "add", "tiny/model", "-a", "wee")
    assert own() == [{"id": "model", "repo": "tiny/model", "aliases": ["wee"]}]
    assert not server.requests
    assert prompt("-m", "wee", *SAY)


def test_adding_keeps_the_rest_of_the_config(tiny: Path, commented: Path) -> None:
    """Every comment and every other key stays, and the config stays right."""
    run("models", "add", str(tiny))
    assert comments(commented.read_text()) == comments(CONFIG)
    before = yaml.safe_load(CONFIG)
    before["models"].append({"id": "tiny", "path": str(tiny)})
    assert yaml.safe_load(commented.read_text()) == before


def test_adds_to_the_example(tiny: Path) -> None:
    """The config that `config init` writes takes models, too, and keeps its comments."""
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
def test_refuses_what_is_no_model(tmp_path: Path, tiny: Path, what: str) -> None:
    """What is neither a model's folder nor a repository is refused, and no config appears."""
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


def test_refuses_what_is_no_repository(commented: Path) -> None:
    """A name that no repository can have is refused, and the config stays as it is."""
    assert "three/part/s" in refused("models", "add", "three/part/s")
    assert commented.read_text() == CONFIG


@pytest.mark.parametrize("name", ["first", "mlx/first", "second", "Phi-4-mini-instruct-4bit"])
def test_refuses_an_id_that_is_taken(tiny: Path, commented: Path, name: str) -> None:
    """An id of the config or of the catalog is refused, and the config stays as it is."""
    message = refused("models", "add", str(tiny), "--id", name)
    assert message.endswith(" exists already (--id NAME)")
    assert commented.read_text() == CONFIG


@pytest.mark.parametrize("name", ["mlx/", " "])
def test_refuses_an_id_that_is_empty(tiny: Path, commented: Path, name: str) -> None:
    """An id without anything behind the prefix is refused."""
    refused("models", "add", str(tiny), "--id", name)
    assert commented.read_text() == CONFIG


@pytest.mark.parametrize("alias", ["gpt-4o", "mine", "tiered"])
def test_refuses_an_alias_that_is_taken(tiny: Path, tiny_tiers: Path, alias: str) -> None:
    """An alias that means another plugin's model, or is the user's own, would go unheard."""
    invoke("aliases", "set", "mine", "gpt-4o")
    before = tiny_tiers.read_text()
    assert alias in refused("models", "add", str(tiny), "--id", "other", "-a", alias)
    assert tiny_tiers.read_text() == before


def test_an_alias_of_the_catalog_can_be_had(tiny: Path) -> None:
    """An alias of the catalog goes over to the config's model, for prompts and for tiers."""
    run("models", "add", str(tiny), "-a", "phi")
    assert prompt("-m", "phi", *SAY)
    path = llm.user_dir() / "tiered" / "config.yaml"
    tiers = [tier("all", "1-10", "phi")]
    path.write_text(yaml.safe_dump({"tiers": tiers, "models": own()}))
    assert run_json("route", "Hello")["model"] == "mlx/tiny"


def test_refuses_to_touch_a_broken_config(tiny: Path, config_file: Path) -> None:
    """A config that can't be read is left as it is."""
    config_file.write_text("models: [")
    assert "not valid YAML" in refused("models", "add", str(tiny))
    assert config_file.read_text() == "models: ["


def test_refuses_to_touch_what_is_there_twice(tiny: Path, config_file: Path) -> None:
    """So is one with a key twice, where one of them would be lost."""
    text = "fallback: any\nfallback: local\n"
    config_file.write_text(text)
    assert "fallback" in refused("models", "add", str(tiny))
    assert config_file.read_text() == text


@pytest.mark.parametrize("name", ["tiny", "mlx/tiny"])
def test_removes_a_model(tiny: Path, name: str) -> None:
    """A model goes by its id, with or without the prefix, and its files stay."""
    run("models", "add", str(tiny), "-a", "wee")
    assert run("models", "remove", name).stdout == "mlx/tiny removed from the config\n"
    assert own() == []
    assert "mlx/tiny" not in listed()
    assert (tiny / "model.safetensors").exists()
    assert "Unknown model: wee" in invoke("-m", "wee", "Hello", code=1).stderr


@pytest.mark.parametrize("name", ["first", "second"])
def test_removes_no_other_model(commented: Path, name: str) -> None:
    """The other model and every other key stay."""
    run("models", "remove", name)
    before = yaml.safe_load(CONFIG)
    before["models"] = [entry for entry in before["models"] if not entry["id"].endswith(name)]
    assert yaml.safe_load(commented.read_text()) == before


@pytest.mark.parametrize("name", ["first", "second"])
def test_removing_keeps_the_comments(commented: Path, name: str) -> None:
    """Every comment stays that is not on the models themselves."""
    run("models", "remove", name)
    lost = set(comments(CONFIG)) - set(comments(commented.read_text()))
    assert lost <= {"# the first of them", "# not used any more", "# the second of them"}


def test_removes_the_last_model(commented: Path) -> None:
    """A config without any model left is right."""
    run("models", "remove", "first")
    run("models", "remove", "second")
    assert own() == []
    assert run("config", "check").stdout == f"{commented} is valid\n"


@pytest.mark.parametrize("name", ["third", "phi", "Phi-4-mini-instruct-4bit"])
def test_removes_only_those_of_the_config(commented: Path, name: str) -> None:
    """A model that the config does not have is told, with those that it has."""
    message = refused("models", "remove", name)
    assert message.endswith(" is not one of the config's models (mlx/first, mlx/second)")
    assert commented.read_text() == CONFIG


def test_removes_nothing_where_nothing_is() -> None:
    """Without a config there is nothing to remove."""
    assert refused("models", "remove", "x") == "mlx/x is not one of the config's models (none)"
