"""The local models that the config adds."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import ConfigError
from ..mlx.catalog import PREFIX
from ..paths import config_path
from .file import parse

# Of every section of the config: what it does not know is a mistake.
STRICT = ConfigDict(extra="forbid", frozen=True)


class UserModel(BaseModel):
    """A local model that the config adds: a repository on the hub, or a folder on disk.

    `adapter` is the folder of a LoRA adapter that goes on top.
    """

    model_config = STRICT

    id: str = Field(min_length=1)
    repo: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    path: Path | None = None
    aliases: tuple[str, ...] = ()
    adapter: Path | None = None

    @field_validator("id")
    @classmethod
    def _prefixed(cls, name: str) -> str:
        return name if name.startswith(PREFIX) else PREFIX + name

    @field_validator("path", "adapter")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        try:
            return config_path().parent / path.expanduser()
        except RuntimeError:
            raise ValueError(f"found {str(path)!r}, and nobody here has that name") from None

    @model_validator(mode="after")
    def _one_source(self) -> UserModel:
        if (self.repo is None) == (self.path is None):
            raise ValueError("expected either 'repo' or 'path'")
        return self


def declared_models() -> tuple[UserModel, ...]:
    """The config's own models, without those that are wrong.

    This is what gets registered with llm: a mistake in the config must not take `llm` down, so
    it is told later, by `config.load`, when the tiers are used.
    """
    try:
        document = parse(config_path())
    except ConfigError:
        return ()
    entries = document.get("models")
    models = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            models.append(UserModel.model_validate(entry))
        except ValidationError:
            continue
    return tuple(models)
