"""Changes to the config file: all of it is written, or nothing."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from llm_tiered.config import edit as config_edit
from llm_tiered.config.settings import load_settings
from llm_tiered.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = f"# {'a comment ' * 400}\nlocal_only: true\n"


def test_no_room(config_file: Path) -> None:
    """On a full disk the file stays as it was, and what is in the way is told."""
    config_file.write_text(BEFORE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    text = config_edit.with_tasks({"haiku": 3})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(ConfigError, match="can't be written: File too large"):
            config_edit.write(text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert config_file.read_text() == BEFORE
    assert [*config_file.parent.iterdir()] == [config_file]


def test_what_is_wrong_is_taken_back(config_file: Path) -> None:
    """A text that is no right config leaves the file as it was."""
    config_file.write_text(BEFORE)
    with pytest.raises(ConfigError, match="unknown key"):
        config_edit.write("teirs: []")
    assert config_file.read_text() == BEFORE


def test_link(config_file: Path, tmp_path: Path) -> None:
    """A link stays one, and the file that it leads to keeps its rights."""
    real = tmp_path / "config.yaml"
    real.write_text(BEFORE)
    real.chmod(0o600)
    config_file.symlink_to(real)
    config_edit.write(config_edit.with_tasks({"haiku": 3}))
    assert config_file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert load_settings().config.tasks["haiku"].complexity == 3
