"""What the tests of the engine have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.engine.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine for one module's tests only."""
    engine = Engine()
    yield engine
    engine.close()
