"""How an engine is ended."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process.client import RunningEngine, end
from llm_tiered.mlx.process.place import EngineFiles

if TYPE_CHECKING:
    from pathlib import Path


def forbidden() -> None:
    """Nobody waits."""
    raise AssertionError


@pytest.mark.skipif(sys.platform != "linux", reason="macOS takes note of all ended processes")
def test_zombie(tmp_path: Path) -> None:
    """A process that has ended counts as such, also if nobody has taken note of that."""
    with subprocess.Popen(["true"]) as process:
        engine = RunningEngine(EngineFiles(tmp_path, "host"), {"pid": process.pid})
        assert end(engine, now=False, on_wait=forbidden)
