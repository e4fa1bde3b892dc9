"""Names that both this plugin and another one have for models: which model answers to them.

llm gives a name to the plugin that registers it last, and says nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from ..config.file import user_aliases
from ..config.local_models import local_models
from .plugins import plugin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..config.settings import Settings
    from .registry import Registry

logger = logging.getLogger("llm_tiered")

OURS = "llm-tiered"

# The warnings that this process has given.
_given: set[str] = set()

# The models and the settings that were looked at last.
_seen: tuple[Registry, Settings] | None = None


class Conflict(NamedTuple):
    """A name that means one model, and would mean another one if its plugin were alone."""

    name: str
    model: str
    other: str

    def __str__(self) -> str:
        return f"{self.name!r} means {self.model}, not {self.other}"


def conflicts(registry: Registry, settings: Settings) -> list[Conflict]:
    """Return the conflicts about this plugin's names and the models of the tiers.

    What the user has chosen (`llm aliases`) is no conflict.
    """
    ours = {alias: spec.model_id for spec in local_models() for alias in spec.aliases}
    ours |= {spec.model_id: spec.model_id for spec in local_models()}
    return _conflicts(registry, [*ours, *_used(settings)], ours)


def warn(registry: Registry, settings: Settings) -> None:
    """Warn of the conflicts about the models of the tiers, of each once in this process."""
    global _seen  # noqa: PLW0603 - llm has one list of models
    if _seen and _seen[0] == registry and _seen[1] is settings:
        return
    _seen = registry, settings
    for conflict in map(str, _conflicts(registry, _used(settings), {})):
        if conflict not in _given:
            _given.add(conflict)
            logger.warning("%s", conflict)


def _used(settings: Settings) -> list[str]:
    return ["tiered", *(tier.model for tier in settings.tiers if not tier.server)]


def _conflicts(registry: Registry, names: Iterable[str], ours: Mapping[str, str]) -> list[Conflict]:
    chosen = user_aliases()
    each = (_conflict(registry, name, ours) for name in dict.fromkeys(names) if name not in chosen)
    return [conflict for conflict in each if conflict]


def _conflict(registry: Registry, name: str, ours: Mapping[str, str]) -> Conflict | None:
    """The last of a name's models answers to it; ours may have left the name to another plugin."""
    models = {plugin_of(model): model.model_id for model in registry.claims(name)}
    if not models:
        return None
    answers = plugin_of(registry.claims(name)[-1])
    if name in ours:
        models.setdefault(OURS, ours[name])
    others = [f"{model} of {plugin}" for plugin, model in models.items() if plugin != answers]
    if not others:
        return None
    return Conflict(name, f"{models[answers]} of {answers}", " or ".join(others))
