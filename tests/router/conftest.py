"""A plugin of llm that is neither this one nor llm-gemini."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.plugins import pm

from tests.stand_in import AsyncStandIn, StandIn, say_id
from tests.toys import TIERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stand_in import Script
    from tests.toys import Toys


class OtherPlugin:
    """Registers models, which take the place of the tier `cloud` one after the other."""

    __name__ = "other"

    def __init__(self, toys: Toys) -> None:
        self._toys = toys
        self._models: list[tuple[Any, Any, tuple[str, ...]]] = []

    def add(
        self,
        model_id: str,
        script: Script = say_id,
        *,
        aliases: tuple[str, ...] = (),
        sync_only: bool = False,
        **features: Any,
    ) -> None:
        """Register a model that does what the script says, and make it the tier `cloud`."""
        asynchronous = None if sync_only else AsyncStandIn(model_id, script, **features)
        self._models.append((StandIn(model_id, script, **features), asynchronous, aliases))
        self.use(model_id)

    def use(self, *models: str) -> None:
        """Let these be the models of the cloud tiers, from complexity 8 upwards."""
        tiers = [
            {"name": f"cloud{number or ''}", "complexity": str(8 + number), "model": model}
            for number, model in enumerate(models)
        ]
        tiers[-1]["complexity"] += "-10" if len(models) < 3 else ""
        self._toys.configure(tiers=[*TIERS[:2], *tiers])

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register the models with llm."""
        for model, asynchronous, aliases in self._models:
            register(model, asynchronous, aliases=aliases)


@pytest.fixture
def other(toys: Toys) -> Iterator[OtherPlugin]:
    """Another plugin, which has no models yet."""
    plugin = OtherPlugin(toys)
    pm.register(plugin, name="other")
    yield plugin
    pm.unregister(plugin)
