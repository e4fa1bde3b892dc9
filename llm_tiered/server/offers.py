"""The models that clients can ask for: `tiered`, its tiers, and each local model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import llm

from ..config.settings import load_settings
from ..router import model_options
from ..router.decision import EMBEDDED_TIER
from ..router.model import AsyncTieredModel
from ..wording import unknown
from .failure import ApiError

if TYPE_CHECKING:
    from llm.models import ModelWithAliases

    from ..config.settings import Settings
    from ..config.terms import Kept

TIERED = "tiered"
LOCAL = f"{TIERED}/local"


@dataclass(frozen=True)
class Offer:
    """A model, and the options that its name stands for."""

    model: Any
    options: dict[str, Any] = field(default_factory=dict)
    kept: Kept | None = None

    @property
    def is_tiered(self) -> bool:
        """Whether the request is routed."""
        return isinstance(self.model, AsyncTieredModel)

    def known_options(self) -> set[str]:
        """Return the names of the options that a request may have."""
        own = set(self.model.Options.model_fields)
        return own | model_options.names() if self.is_tiered else own


class Offers:
    """All offers. They are looked up again once the config has changed."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._offers: dict[str, Offer] = {}
        self._aliases: dict[str, Offer] = {}

    def names(self) -> list[str]:
        """Return the names of all models. Raises ConfigError."""
        self._refresh()
        return list(self._offers)

    def find(self, name: str) -> Offer:
        """Return the model of that name or alias. Raises ApiError or ConfigError."""
        self._refresh()
        offer = self._offers.get(name) or self._aliases.get(name)
        if offer is None:
            message = unknown("model", name[:200], self._offers)
            raise ApiError(404, message, code="model_not_found", param="model")
        return offer

    def known(self, name: str) -> Offer | None:
        """Return the model of that name or alias if it has been looked up. Raises ConfigError."""
        if load_settings() is not self._settings:
            return None
        return self._offers.get(name) or self._aliases.get(name)

    def _refresh(self) -> None:
        settings = load_settings()
        if settings is self._settings:
            return
        entries = llm.get_models_with_aliases()
        tiered = next(each.async_model for each in entries if _is(each, AsyncTieredModel))
        tiers = [*(tier.name for tier in settings.tiers), EMBEDDED_TIER]
        offers = {TIERED: Offer(tiered), LOCAL: Offer(tiered, kept="here")}
        for tier in tiers:
            # A tier that is called local can be named by the field `tier`.
            offers.setdefault(f"{TIERED}/{tier}", Offer(tiered, {"tier": tier}))
        aliases: dict[str, Offer] = {}
        for entry in entries:
            if getattr(entry.async_model, "runs_here", False):
                offer = Offer(entry.async_model, kept="here")
                offers[entry.async_model.model_id] = offer
                aliases |= dict.fromkeys(entry.aliases, offer)
        # Threads that are answering look at these.
        self._offers, self._aliases, self._settings = offers, aliases, settings


def _is(entry: ModelWithAliases, kind: type) -> bool:
    return isinstance(entry.async_model, kind)
