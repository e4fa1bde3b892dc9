"""A temporary user directory for the bench, so that its prompts never reach the user's log."""

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
    """A model to measure: its id, its folder, and the folder of its adapter."""

    model_id: str
    folder: Path
    adapter: Path | None = None

    def as_config(self) -> dict[str, Any]:
        """The model's entry in the config."""
        entry = {"id": self.model_id, "path": str(self.folder)}
        return entry | ({"adapter": str(self.adapter)} if self.adapter else {})


@contextmanager
def home(
    folder: Path,
    subjects: Sequence[Subject],
    tier: Subject,
    memory_limit: int | None,
    keep_warm: str = "0",
) -> Iterator[None]:
    """Let llm use `folder` as its user directory, with these models and none of the user's.

    `tiered` sends every prompt to `tier`. `memory_limit` is in bytes. With `keep_warm`, models are
    in an engine of their own, which the caller has to end.
    """
    settings = {
        "tiers": [{"name": "all", "complexity": "1-10", "model": tier.model_id}],
        "models": [subject.as_config() for subject in subjects],
        "memory_limit": memory_limit,
        "keep_warm": keep_warm,
        "allow_cpu": True,
        "log_api": False,
    }
    with home_with(folder, settings):
        yield


@contextmanager
def home_with(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Let llm use `folder` as its user directory, with this config and nothing of the user's."""
    path = folder / "tiered" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(settings), "utf-8")  # JSON is valid YAML
    with _environment({"LLM_USER_PATH": str(folder)} | dict.fromkeys(ENVIRONMENT)):
        yield


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or remove those with the value None, and restore them afterwards."""
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
