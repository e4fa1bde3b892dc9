"""A tier with a server next to OpenAI's client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_tiered.bench import endpoints
from tests.bench.conftest import PLAN
from tests.endpoints.conftest import openai

if TYPE_CHECKING:
    from types import ModuleType

    import pytest

__all__ = ["openai"]


def test_endpoints(openai: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server is asked both ways, alone and by many at once."""
    for name, value in {"ROWS": 3, "PACE": 1, "LONG": 5, "MORE_ROUNDS": 1}.items():
        monkeypatch.setattr(endpoints, name, value)
    figures = {figure.name: figure for figure in endpoints.endpoints(PLAN)}
    assert {name: (figure.unit, figure.against) for name, figure in figures.items()} == {
        "endpoint_first_token": ("ms", None),
        "endpoint_token": ("µs", None),
        "endpoint_rows": ("tokens/s", "openai"),
    }
    assert figures["endpoint_rows"].note == "3 rows at once"
