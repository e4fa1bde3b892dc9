"""llm's commands as processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench import commands
from llm_tiered.errors import TieredError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_command_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is that of the whole process."""
    monkeypatch.setenv("LLM_LOAD_PLUGINS", "")
    assert 0.1 < commands.run(tmp_path, "--version") < 60


def test_a_command_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails is reported with its last line."""
    monkeypatch.setenv("LLM_LOAD_PLUGINS", "")
    with pytest.raises(TieredError, match=r"llm prompt fails: .*Unknown model: nobody"):
        commands.ask(tmp_path, "nobody", "Hello", max_tokens=1)
