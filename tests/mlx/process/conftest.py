"""No test leaves an engine behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process import client
from tests.mlx.process.engines import end

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def no_engine_left() -> Iterator[None]:
    """End the engine that runs after the test."""
    yield
    if engine := client.running():
        end(engine)
