"""What reports work costs out with."""

from __future__ import annotations

from typing import NamedTuple

import llm

from ..config.settings import load_settings
from .prices import Energy


class Basis(NamedTuple):
    """The id of the model that costs are compared with, and what the power here costs, if known."""

    cloud_model: str | None = None
    energy: Energy | None = None


def of_config() -> Basis:
    """What the config says; the model is that of the most complex cloud tier.

    Raises ConfigError.
    """
    settings = load_settings()
    power = settings.config.electricity
    energy = Energy(power.watts, power.price_per_kwh) if power else None
    names = [tier.model for tier in settings.tiers if not tier.local]
    if not names:
        return Basis(None, energy)
    model = llm.get_model_aliases().get(names[-1])
    return Basis(model.model_id if model else names[-1], energy)
