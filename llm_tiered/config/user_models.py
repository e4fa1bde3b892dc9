"""The local models that the config adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import ConfigError
from ..mlx.catalog import PREFIX
from ..paths import config_path
from .file import parse
from .values import Words

if TYPE_CHECKING:
    from collections.abc import Mapping

# For every section of the config: an unknown key is a mistake. Pydantic compiles what checks a
# section when that is first used, which is seldom.
STRICT = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class UserModel(BaseModel):
    """A local model that the config adds, from the Hugging Face hub or from a folder."""

    model_config = STRICT

    id: str = Field(min_length=1, description="Id of the model; mlx/ is added if it is missing")
    repo: Annotated[str | None, Words("owner/name")] = Field(
        default=None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Repository on the Hugging Face hub",
    )
    path: Path | None = Field(
        default=None, description="Folder of the model on this machine, instead of a repository"
    )
    aliases: Annotated[tuple[str, ...], Words("a list of names")] = Field(
        default=(), description="Short names for the model"
    )
    adapter: Path | None = Field(
        default=None, description="Folder of a LoRA adapter to apply to the model"
    )

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
            raise ValueError(f"found {str(path)!r}, but there is no user of that name") from None

    @model_validator(mode="after")
    def _one_source(self) -> UserModel:
        if (self.repo is None) == (self.path is None):
            raise ValueError("expected either 'repo' or 'path'")
        return self


def declared_models() -> tuple[UserModel, ...]:
    """Return the valid models of the config.

    These are registered with llm. A mistake in the config must not keep llm from starting, so
    the others are left out here; `load_settings` raises the error once the tiers are used.
    """
    try:
        document = parse(config_path())
    except ConfigError:
        return ()
    return valid_models(document)


def valid_models(document: Mapping[str, Any]) -> tuple[UserModel, ...]:
    """Return the valid models among those of a config file."""
    entries = document.get("models")
    models = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            models.append(UserModel.model_validate(entry))
        except ValidationError:
            continue
    return tuple(models)
