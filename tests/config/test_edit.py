"""Changes to the config file: comments stay, and the file is written as a whole."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from llm_tiered.config import edit
from llm_tiered.config.settings import load_settings
from llm_tiered.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = f"# {'a comment ' * 400}\nlocal_only: true\n"

FIRST = """\
  # the first of them
  - id: mlx/first # not used any more
    repo: owner/first
"""
SECOND = """\

  # the second of them
  - id: second
    repo: owner/second
    aliases: [two, zwei] # in two languages
"""
THIRD = """\

  # the third of them
  - id: third
    repo: owner/third
    aliases:
      - three
      - drei # in two languages
"""
AFTER = """\

# Who may answer.
fallback: local # for now
"""


def _config(*models: str) -> str:
    return "".join(["# My own config.\n\nmodels: # mine\n", *models, AFTER])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_model_goes_with_its_comments(config_file: Path, index: int) -> None:
    """The comments on a model are removed with it, and everything else stays as it was."""
    models = [FIRST, SECOND, THIRD]
    config_file.write_text(_config(*models))
    edit.remove_model(index)
    del models[index]
    assert config_file.read_text() == _config(*models)


def test_the_only_model(config_file: Path) -> None:
    """The list is empty after its last model is gone, and the comments beside it stay."""
    config_file.write_text(_config(FIRST))
    edit.remove_model(0)
    assert config_file.read_text() == _config().replace("models:", "models: []")


def test_a_model_in_brackets(config_file: Path) -> None:
    """A list in one line stays one."""
    config_file.write_text(
        "models: [{id: x, repo: a/x}, {id: y, repo: a/y}]\n# then\nlog_api: no\n"
    )
    edit.remove_model(0)
    assert config_file.read_text() == "models: [{id: y, repo: a/y}]\n# then\nlog_api: no\n"


@pytest.mark.parametrize("models", [[FIRST], [FIRST, SECOND, THIRD]])
def test_a_model_is_added_after_the_others(config_file: Path, models: list[str]) -> None:
    """A new model comes after the others and before the comments on the next key."""
    config_file.write_text(_config(*models))
    edit.add_model({"id": "new", "repo": "owner/new", "aliases": ["n"]})
    new = "  - id: new\n    repo: owner/new\n    aliases:\n      - n\n"
    assert config_file.read_text() == _config(*models, new)


def test_the_first_model_is_added(config_file: Path) -> None:
    """An empty list gets its first model, and the comments around it stay."""
    config_file.write_text(f"# My own config.\nmodels: []\n{AFTER}")
    edit.add_model({"id": "new", "repo": "owner/new"})
    new = "models:\n  - id: new\n    repo: owner/new\n"
    assert config_file.read_text() == f"# My own config.\n{new}{AFTER}"


@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_lists_keep_their_indentation(config_file: Path, indent: str) -> None:
    """Lists are indented as the file does it already."""
    models = [f"{indent}- id: {name}\n{indent}  repo: owner/{name}\n" for name in "xyz"]
    config_file.write_text("".join(["models:\n", *models[:2]]))
    edit.add_model({"id": "z", "repo": "owner/z"})
    edit.remove_model(0)
    assert config_file.read_text() == "".join(["models:\n", *models[1:]])


def test_the_first_list_of_a_file(config_file: Path) -> None:
    """In a file without lists, the first one is indented like those of the example file."""
    config_file.write_text("tasks:\n  haiku: 2\n")
    edit.add_model({"id": "x", "repo": "owner/x"})
    new = "models:\n  - id: x\n    repo: owner/x\n"
    assert config_file.read_text() == f"tasks:\n  haiku: 2\n{new}"


def test_comments_without_a_key_stay(config_file: Path) -> None:
    """A file of comments alone keeps them."""
    config_file.write_text("# local_only: true\n")
    edit.add_model({"id": "new", "repo": "owner/new"})
    assert config_file.read_text() == (
        "# local_only: true\nmodels:\n  - id: new\n    repo: owner/new\n"
    )


def test_full_disk(config_file: Path) -> None:
    """On a full disk the file stays as it was, and the error says why."""
    config_file.write_text(BEFORE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    text = edit.with_tasks({"haiku": 3})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(ConfigError, match="can't be written: File too large"):
            edit.write(text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert config_file.read_text() == BEFORE
    assert [*config_file.parent.iterdir()] == [config_file]


def test_a_mistake_changes_nothing(config_file: Path) -> None:
    """A text that is not a valid config leaves the file as it was."""
    config_file.write_text(BEFORE)
    with pytest.raises(ConfigError, match="unknown key"):
        edit.write("teirs: []")
    assert config_file.read_text() == BEFORE


def test_link(config_file: Path, tmp_path: Path) -> None:
    """A link stays a link, and its target keeps its mode."""
    real = tmp_path / "config.yaml"
    real.write_text(BEFORE)
    real.chmod(0o600)
    config_file.symlink_to(real)
    edit.write(edit.with_tasks({"haiku": 3}))
    assert config_file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert load_settings().config.tasks["haiku"].complexity == 3
