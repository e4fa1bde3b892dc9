"""The local models: the catalog and the models of the config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..mlx.catalog import CATALOG, ModelSpec
from ..paths import config_path
from . import file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .user_models import UserModel

# None before llm has registered its models in this process.
_taken: frozenset[str] | None = None


def local_models() -> tuple[ModelSpec, ...]:
    """Return the catalog with the config's models, which replace those with the same id."""
    specs = {spec.model_id: spec for spec in CATALOG}
    for model in _declared():
        specs[model.id] = ModelSpec(
            model_id=model.id,
            repo=model.repo,
            path=model.path,
            aliases=model.aliases,
            adapter=model.adapter,
        )
    return tuple(specs.values())


def find_local_model(name: str) -> ModelSpec | None:
    """Return the local model with this id or alias, or None. As in llm, the last one wins."""
    for spec in reversed(local_models()):
        if name == spec.model_id or name in spec.aliases:
            return spec
    return None


def note_taken(aliases: Iterable[str]) -> None:
    """Note the aliases of local models that mean models of other plugins in llm."""
    global _taken  # noqa: PLW0603 - llm has one list of models
    _taken = frozenset(aliases)


def noted_aliases() -> frozenset[str] | None:
    """Return the aliases that were last noted, or None before llm has registered its models."""
    return _taken


def taken_aliases() -> frozenset[str]:
    """Return the aliases that were last noted; llm registers its models if it has not yet."""
    if _taken is None:
        import llm

        llm.get_models_with_aliases()
    return _taken or frozenset()


def _declared() -> tuple[UserModel, ...]:
    try:
        lines = file.read(config_path()).splitlines()
    except ConfigError:
        return ()
    # Parsing YAML would slow the start of llm, so a config that adds no models is not parsed.
    if not any("models" in line for line in lines if not line.lstrip().startswith("#")):
        return ()
    from .user_models import declared_models

    return declared_models()
