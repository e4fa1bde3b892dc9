"""Registers the local models and `tiered` with llm.

llm does this whenever it starts, so as little as possible is imported here: everything that
answers a prompt is imported with the first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config.file import user_aliases
from .config.local_models import find_local_model, local_models, note_taken
from .mlx.models import AsyncMlxModel, MlxModel
from .router.model import AsyncTieredModel, TieredModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm.models import ModelWithAliases

    from .mlx.engine.requests import Limits


def register(register: Callable[..., None], models: list[ModelWithAliases] | None) -> None:
    """Register the local models and `tiered` with llm.

    `models` are those that llm knows so far, or None if the caller does not say. An alias that
    already means something, to another plugin or to the user, keeps its meaning.
    """
    others: set[str] = set()
    for entry in models or ():
        if entry.model:
            others.add(entry.model.model_id)
        others.update(entry.aliases)
    specs = local_models()
    note_taken(alias for spec in specs for alias in spec.aliases if alias in others)
    taken = others.union(user_aliases())
    for spec in specs:
        aliases = [alias for alias in spec.aliases if alias not in taken]
        parts = (spec, _limits, find_local_model)
        register(MlxModel(*parts), AsyncMlxModel(*parts), aliases=aliases)
    register(TieredModel(models), AsyncTieredModel(models))


def _limits() -> Limits:
    from .config.settings import load_settings
    from .mlx.engine.requests import Limits

    settings = load_settings().config
    return Limits(
        memory=settings.memory_limit,
        kv_disk=settings.kv_disk,
        keep_warm=settings.keep_warm.total_seconds(),
    )
