"""The temporary user directory of the bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llm
import pytest

from llm_tiered.bench.home import Subject, home
from llm_tiered.config.settings import load_settings

SUBJECT = Subject("mlx/mine", Path("/models/mine"), Path("/adapters/mine"))


def test_models(tmp_path: Path) -> None:
    """Inside, llm has the models with their files, and `tiered` has one tier; outside, neither."""
    with home(tmp_path / "home", [SUBJECT], SUBJECT, 10**9):
        model: Any = llm.get_model("mlx/mine")
        assert (model.spec.path, model.spec.adapter) == (SUBJECT.folder, SUBJECT.adapter)
        settings = load_settings()
        assert [tier.model for tier in settings.tiers] == ["mlx/mine"]
        assert settings.config.memory_limit == 10**9
        assert llm.user_dir() == tmp_path / "home"
    with pytest.raises(llm.UnknownModelError):
        llm.get_model("mlx/mine")


def test_environment(tmp_path: Path, user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's environment variables have no effect inside, and are back outside."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    with home(tmp_path / "home", [SUBJECT], SUBJECT, None):
        assert load_settings().force_local is None
    assert load_settings().force_local is False
    assert llm.user_dir() == user_path
    assert not list(user_path.iterdir())
