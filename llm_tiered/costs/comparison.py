"""The comparison that the config asks for in reports on costs."""

from __future__ import annotations

import llm

from ..config.settings import load_settings
from .money import Comparison
from .prices import Energy


def comparison_of_config() -> Comparison:
    """Return the comparison with the model of the most complex cloud tier. Raises ConfigError."""
    settings = load_settings()
    power = settings.config.electricity
    energy = Energy(power.watts, power.price_per_kwh) if power else None
    names = [tier.model_id for tier in settings.tiers if not tier.local]
    if not names:
        return Comparison(None, energy)
    model = llm.get_model_aliases().get(names[-1])
    return Comparison(model.model_id if model else names[-1], energy)
