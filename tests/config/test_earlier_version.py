"""A config file that an earlier version wrote."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ByteSize

from llm_tiered.config import edit
from llm_tiered.config.sections import Budget, Cache, Config, Electricity, Task
from llm_tiered.config.settings import load_settings
from llm_tiered.config.user_models import UserModel

# Written by `llm tiered config init` and `llm tiered models add`, then edited by hand.
TEXT = Path(__file__).with_name("earlier_version.yaml").read_text("utf-8")


@pytest.fixture
def earlier(config_file: Path) -> Path:
    """The file in its place."""
    config_file.write_text(TEXT, "utf-8")
    return config_file


@pytest.mark.usefixtures("earlier")
def test_it_means_the_same() -> None:
    """Every value is read as it was."""
    repo = "mlx-community/Qwen3-32B-4bit"
    assert load_settings().config == Config(
        tasks={"haiku": Task(complexity=2, cache=False, escalate=True)},
        rollout={"medium": 0.25},
        cache=Cache(ttl=timedelta(days=7), temperature_max=0.3),
        budget=Budget(day=Decimal("1.5"), month=Decimal(20)),
        electricity=Electricity(price_per_kwh=Decimal("0.3"), watts=40),
        fallback="local",
        memory_limit=ByteSize(24_000_000_000),
        kv_disk=ByteSize(5_000_000_000),
        models=(UserModel(id="mlx/Qwen3-32B-4bit", repo=repo, aliases=("big",)),),
    )


def test_it_can_be_edited(earlier: Path) -> None:
    """A model is added after the others and removed again, and nothing else changes."""
    edit.add_model({"id": "mlx/x", "repo": "owner/x"})
    assert earlier.read_text("utf-8") == TEXT + "  - id: mlx/x\n    repo: owner/x\n"
    edit.remove_model(1)
    assert earlier.read_text("utf-8") == TEXT
