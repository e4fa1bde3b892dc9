"""The comparison that the config asks for."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import llm

from llm_tiered.costs.comparison import comparison_of_config
from llm_tiered.costs.money import Comparison
from llm_tiered.costs.prices import Energy
from llm_tiered.paths import aliases_path
from tests.cli.commands import configure, tier

if TYPE_CHECKING:
    import pytest

FLASH = "gemini/gemini-2.5-flash"


def test_an_id_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a provider is the model's id: no plugin is loaded, which takes half a second."""

    def loaded() -> dict[str, Any]:
        raise AssertionError("plugins are loaded")

    monkeypatch.setattr(llm, "get_model_aliases", loaded)
    configure(tier("small", "1-7", "mlx/small"), tier("cloud", "8-10", FLASH))
    assert comparison_of_config() == Comparison(FLASH)


def test_aliases() -> None:
    """An alias stands for its model, whether it is one of the plugin or one of the user."""
    aliases_path().write_text(json.dumps({"my/flash": FLASH}))
    for name in ("gemini-2.5-flash", "my/flash"):
        configure(tier("cloud", "1-10", name))
        assert comparison_of_config().cloud_model == FLASH


def test_electricity() -> None:
    """The price of local power comes along; without a cloud tier there is no model."""
    configure(tier("small", "1-10", "mlx/small"), electricity={"price_per_kwh": 0.3, "watts": 40})
    assert comparison_of_config() == Comparison(None, Energy(40, Decimal("0.3")))
