"""A user directory of the bench's own: its prompts end up in nobody's log."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.settings import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """A model to measure: its id, and its files."""

    model_id: str
    folder: Path
    adapter: Path | None = None

    def as_config(self) -> dict[str, Any]:
        """The model as the config has it."""
        entry = {"id": self.model_id, "path": str(self.folder)}
        return entry | ({"adapter": str(self.adapter)} if self.adapter else {})


@contextmanager
def home(
    folder: Path, subjects: Sequence[Subject], tier: Subject, memory_limit: int | None
) -> Iterator[None]:
    """Let llm know these models and no others of the user's; `tiered` always takes `tier`."""
    settings = {
        "tiers": [{"name": "all", "complexity": "1-10", "model": tier.model_id}],
        "models": [subject.as_config() for subject in subjects],
        "memory_limit": memory_limit,
        "allow_cpu": True,
        "log_api": False,
    }
    path = folder / "tiered" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(settings), "utf-8")  # JSON is YAML too
    with _environment({"LLM_USER_PATH": str(folder)} | dict.fromkeys(ENVIRONMENT)):
        yield


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or remove them where the value is None, and put them back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
