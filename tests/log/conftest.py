from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.make_log import empty_log

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log of llm."""
    empty_log(logs)
    return logs
