"""What an engine says of itself, for commands that show it."""

from __future__ import annotations

import time
from typing import Any

from llm_tiered.mlx.process.identity import identity

NOW = time.time()


def status(**changes: Any) -> dict[str, Any]:
    """What an engine says of itself, with one model."""
    model = {
        "name": "mlx/tiny",
        "folder": "/models/tiny",
        "bytes": 1_500_000_000,
        "parameters": 1_000_000,
        "last_used": NOW,
        "tokens_per_second": 35.2,
        "answers": 0,
        "until": NOW,
    }
    return {
        "identity": identity(),
        "pid": 4711,
        "started": NOW,
        "until": NOW,
        "running": 0,
        "waiting": 0,
        "models": [model | changes.pop("model", {})],
        "unloaded": [],
        "budget": 16_000_000_000,
    } | changes
