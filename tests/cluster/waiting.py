"""A worker whose model only waits: `dask worker … --preload tests.cluster.waiting`.

$MODEL_SECONDS is how long it takes for an answer. Only the engine is replaced.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from llm_tiered.cluster import worker
from llm_tiered.mlx.engine.requests import Done
from llm_tiered.mlx.tokens.decoding import Text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.mlx.engine.requests import CancelToken, Event, GenerationRequest

SECONDS = float(os.environ.get("MODEL_SECONDS", "0"))


class WaitingEngine:
    """Answers each prompt with itself, all of them at the same time."""

    budget = 10**10

    def __init__(self) -> None:
        self._resident: dict[str, Path] = {}

    def resident(self) -> dict[str, Path]:
        """Return the models that were asked for, as if they were in memory."""
        return self._resident

    def submit(
        self,
        request: GenerationRequest,
        emit: Callable[[Event], None],
        cancel_token: CancelToken,
        *,
        wait: bool = True,
    ) -> bool:
        """Answer after the time that the model takes."""
        self._resident[request.name] = request.folder

        def answer() -> None:
            emit(Text(str(request.chat[-1]["content"])))
            emit(Done("stop", 3, 0, 2, 1.0, 1.0, 1, None, None))

        if SECONDS:
            timer = threading.Timer(SECONDS, answer)
            timer.daemon = True
            timer.start()
        else:
            answer()
        return True


# It answers as the real one does.
vars(worker)["ENGINE"] = WaitingEngine()
