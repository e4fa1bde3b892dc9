"""The comparison that the config asks for in reports on costs."""

from __future__ import annotations

from ..config.settings import load_settings
from .money import Comparison
from .prices import Energy


def comparison_of_config() -> Comparison:
    """Return the comparison with the model of the most complex cloud tier. Raises ConfigError."""
    settings = load_settings()
    power = settings.config.electricity
    energy = Energy(power.watts, power.price_per_kwh) if power else None
    tiers = [tier for tier in settings.tiers if tier.place == "cloud"]
    if not tiers:
        return Comparison(None, energy)
    tier = tiers[-1]
    return Comparison(_id_of(tier.model_id), energy, tier.answer_price)


def _id_of(name: str) -> str:
    """Return the id of the model that a name means to llm, or the name itself."""
    # Plugins' aliases lack the provider in front, and the settings have looked up the user's.
    # Loading the plugins takes half a second.
    if "/" in name:
        return name
    import llm

    model = llm.get_model_aliases().get(name)
    return model.model_id if model else name
